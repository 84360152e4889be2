"""Fetches the missing bytes of a partial download, several ranges at once, until all are there."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack

import httpx2

from ..errors import Cancelled, ModelNotFound, RemoteError
from .partial import Partial
from .remote import RemoteBlob
from .sites import host_of
from .web import TryAgain, Web

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_TICK = 0.1  # seconds between reports


class _NoRanges(Exception):
    """The server sends the whole file whatever it is asked for."""


class Ranges:
    """The transfer of one blob into its partial file."""

    def __init__(self, web: Web, blob: RemoteBlob, partial: Partial, connections: int) -> None:
        self._web = web
        self._blob = blob
        self._partial = partial
        self._connections = connections
        self._queue: deque[int] = deque()
        self._location: str | None = None
        self._has_given = False
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._working = 0

    def run(self, tick: Callable[[], None]) -> None:
        """Fetch all that is missing; call `tick` every tenth of a second. Raises what ends the transfer."""
        self._queue = deque(self._partial.missing())
        try:
            self._together(min(self._connections, len(self._queue)), self._work, tick)
        except _NoRanges:
            self._ending.clear()
            self._together(1, self._whole, tick)

    def _together(self, threads: int, work: Callable[[], None], tick: Callable[[], None]) -> None:
        """Run `work` in threads; the first failure, or one of `tick`, ends all of them."""
        if not threads:
            return
        self._working = threads
        with ThreadPoolExecutor(threads, thread_name_prefix="download") as pool:
            futures = [pool.submit(work) for _ in range(threads)]
            try:
                waiting = set(futures)
                while waiting:
                    done, waiting = wait(waiting, _TICK, FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                    self._web.cancelled.check()
                    tick()
            except BaseException:
                # The pool waits for its threads: none may wait for a server meanwhile.
                self._ending.set()
                self._web.stop()
                raise

    def _work(self) -> None:
        """Fetch chunks until none is left; give up after too many failures without a byte between them."""
        failures, seen = 0, 0
        while not self._ending.is_set():
            try:
                number = self._queue.popleft()
            except IndexError:
                return
            before = self._partial.left(number)
            try:
                self._chunk(number)
                failures = 0
            except TryAgain as failure:
                self._queue.append(number)
                if self._partial.left(number) < before:
                    failures = 0
                elif failures == 0:
                    seen = self._partial.completed
                failures += 1
                if failures > self._web.patience.tries and self._may_leave(seen):
                    return
                self._pause(failures, failure)

    def _may_leave(self, seen: int) -> bool:
        """Leave the rest to other threads, where they get bytes: a server may allow a few connections only."""
        with self._lock:
            if self._working < 2 or self._partial.completed <= seen:
                return False
            self._working -= 1
            return True

    def _pause(self, failures: int, failure: TryAgain) -> None:
        """Wait before another try; raise the failure's error when there were enough."""
        if self._ending.is_set():
            return
        if failures > self._web.patience.tries:
            raise failure.error
        self._ending.wait(self._web.patience.wait(failures, failure.after))

    def _chunk(self, number: int) -> None:
        partial = self._partial
        start, left = partial.start(number), partial.left(number)
        headers = {"Range": f"bytes={start}-{start + left - 1}"}
        if self._blob.etag and self._blob.digest is None and not self._blob.etag.startswith("W/"):
            headers["If-Range"] = self._blob.etag
        with ExitStack() as stack:
            response = self._open(stack, headers)
            if response.status_code != 206 and (start or left != partial.size):
                self._check_version(response)
                raise _NoRanges
            self._check(response, start)
            for piece in self._web.pieces(response):
                if self._ending.is_set():
                    return
                if len(piece) > partial.left(number):
                    raise RemoteError(f"{self._where()} sent more bytes than were asked for")
                partial.write(number, piece)
        if partial.left(number):
            raise TryAgain(RemoteError(f"{self._where()} sent fewer bytes than it announced"))

    def _whole(self) -> None:
        """Fetch all from the start: the server knows no ranges."""
        partial, failures = self._partial, 0
        while not self._ending.is_set():
            partial.forget()
            try:
                with ExitStack() as stack:
                    response = self._open(stack, {})
                    self._check(response, 0)
                    self._spread(response)
                if not partial.missing():
                    return
                raise TryAgain(RemoteError(f"{self._where()} sent fewer bytes than it announced"))
            except TryAgain as failure:
                failures += 1
                self._pause(failures, failure)

    def _spread(self, response: httpx2.Response) -> None:
        """Write a body from the start over all chunks."""
        partial, number = self._partial, 0
        for piece in self._web.pieces(response):
            while piece:
                if self._ending.is_set():
                    return
                if number * partial.chunk >= partial.size:
                    raise RemoteError(f"{self._where()} sent more bytes than it announced")
                left = partial.left(number)
                partial.write(number, piece[:left])
                number, piece = (number + 1, piece[left:]) if len(piece) >= left else (number, b"")

    def _open(self, stack: ExitStack, headers: dict[str, str]) -> httpx2.Response:
        """Ask where the last answer came from, and again at the source where that address has expired."""
        known = self._location
        if known is not None:
            try:
                return stack.enter_context(self._web.open("GET", known, self._blob.site, headers))
            except Cancelled:
                raise
            except (RemoteError, ModelNotFound):
                self._location = None
        try:
            response = stack.enter_context(self._web.open("GET", self._blob.url, self._blob.site, headers))
        except Cancelled:
            raise
        except (RemoteError, ModelNotFound) as error:
            if self._has_given:
                raise TryAgain(error) from error  # it was allowed a moment ago
            raise
        self._has_given = True
        if str(response.url) != self._blob.url:
            self._location = str(response.url)
        return response

    def _check(self, response: httpx2.Response, start: int) -> None:
        """Raise RemoteError where an answer is not what was asked for, or of another size."""
        self._check_version(response)
        size = self._partial.size
        if response.status_code == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if found is None or int(found[1]) != start:
                raise RemoteError(f"{self._where()} sent another range than it was asked for")
            total = found[3]
        else:
            total = response.headers.get("content-length", "*")
        if total.isdecimal() and total != str(size):
            raise RemoteError(f"{self._where()} has {total} bytes, and not the announced {size}", hint=_LIED)

    def _check_version(self, response: httpx2.Response) -> None:
        """Raise RemoteError where the file is no longer the one that the download began with."""
        etag, known = response.headers.get("etag"), self._blob.etag
        if (
            self._blob.digest is None
            and known
            and etag
            and etag.removeprefix("W/") != known.removeprefix("W/")
        ):
            raise RemoteError(f"{self._where()} was changed in the meantime", hint="pull it again")

    def _where(self) -> str:
        return f"{self._blob.shown} of {host_of(self._location or self._blob.url)}"


_LIED = "the file was changed there, or what stands between alters it; pull again"
