"""Brings one blob into the store's folder of downloads: shared by processes, resumed, verified."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import DigestMismatch, RemoteError
from .disk import disk_errors, hash_file, write_atomic
from .events import Event, Report
from .manifest import DIGEST
from .partial import Partial
from .ranges import Ranges
from .remote import RemoteBlob
from .web import Web

_WINDOW = 8.0  # seconds over which a rate is measured
_POLL = 0.2  # seconds between looks at another process' download


@dataclass(frozen=True, slots=True)
class Arrived:
    """A blob that is here, verified: at `path` in the folder of downloads, or in the store if that is None."""

    digest: str
    size: int
    path: Path | None


class Download:
    """The transfer of blobs into one folder; `stored` tells whether the store has a digest, in so many bytes."""

    def __init__(
        self, folder: Path, web: Web, stored: Callable[[str, int], bool], report: Report, connections: int = 8
    ) -> None:
        self.folder = folder
        self._web = web
        self._stored = stored
        self._report = report
        self._connections = connections

    def remaining(self, blob: RemoteBlob) -> int:
        """Return how many bytes of a blob still have to come, as far as can be told."""
        if blob.size is None or self._known(blob) is not None:
            return 0
        partial = Partial(self.folder, blob.key)
        return 0 if partial.done.is_file() else max(0, blob.size - partial.peek())

    def run(self, blob: RemoteBlob) -> Arrived:
        """Bring a blob; raises MullError, also Cancelled. What has come stays for the next time."""
        partial = Partial(self.folder, blob.key)
        progress, waiting = _Progress(blob, self._report), False
        while True:
            with partial.owned() as mine:
                if mine:
                    known = self._known(blob)
                    if known is not None:
                        progress.show(known.size, last=True)
                    return known or self._own(blob, partial, progress)
            if not waiting:
                self._report(
                    Event(f"{blob.shown} is being pulled by another process; waiting for it", "note")
                )
                waiting = True
            # Its progress is ours.
            progress.show(partial.peek())
            self._web.cancelled.sleep(_POLL)

    def _known(self, blob: RemoteBlob) -> Arrived | None:
        """Return a blob that the store has; its digest may be known from an earlier download only."""
        digest = blob.digest or self._remembered(blob)
        if digest is None or blob.size is None or not self._stored(digest, blob.size):
            return None
        return Arrived(digest, blob.size, None)

    def _own(self, blob: RemoteBlob, partial: Partial, progress: _Progress) -> Arrived:
        # Another process may make a blob of what it has brought while we look at it.
        if (here := self._finished(blob, partial) or self._known(blob)) is not None:
            return here
        if blob.size is None:
            raise RemoteError(f"{blob.shown}: the server does not say how large it is")
        partial.open(blob.size, blob.digest or blob.git_id or blob.etag or "")
        try:
            digest = self._fetch(blob, partial, progress)
            path = partial.finish()
        finally:
            partial.close()
        if blob.digest is None:
            write_atomic(self._memo(blob), digest.encode())
        return Arrived(digest, blob.size, path)

    def _finished(self, blob: RemoteBlob, partial: Partial) -> Arrived | None:
        """Return a download that is whole and verified, and that no model has taken yet."""
        with disk_errors(f"read {blob.shown}"), suppress(FileNotFoundError):
            size = partial.done.stat().st_size
            return Arrived(blob.digest or hash_file(partial.done)[0], size, partial.done)
        return None

    def _fetch(self, blob: RemoteBlob, partial: Partial, progress: _Progress) -> str:
        """Fetch what is missing and verify it all; bytes of an earlier run are trusted once only."""
        while True:
            resumed = partial.resumed
            progress.show(partial.completed)
            Ranges(self._web, blob, partial, self._connections).run(lambda: progress.show(partial.completed))
            progress.show(partial.completed, last=True)
            digest = self._verify(blob, partial)
            if digest is not None:
                return digest
            if not resumed:
                partial.discard()
                raise DigestMismatch(
                    f"{blob.shown} is not what was announced: its bytes have another digest",
                    hint="what came was thrown away; pull again, or from another source",
                )
            self._report(Event(f"{blob.shown}: what was there of it is damaged; it comes again", "warning"))
            partial.forget()

    def _verify(self, blob: RemoteBlob, partial: Partial) -> str | None:
        """Return the digest if the bytes are those that were announced."""

        def show(done: int, total: int) -> None:
            self._web.cancelled.check()
            self._report(
                Event("verifying sha256 digest", "progress", blob.digest, total, done, name=blob.shown)
            )

        with disk_errors(f"read {blob.shown}"):
            digest, _ = hash_file(partial.path, show)
            if blob.digest is None and blob.git_id is not None and git_id(partial.path) != blob.git_id:
                return None
        return digest if blob.digest in (None, digest) else None

    def _memo(self, blob: RemoteBlob) -> Path:
        return self.folder / f"{blob.key}.is"

    def _remembered(self, blob: RemoteBlob) -> str | None:
        try:
            text = self._memo(blob).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return text if DIGEST.fullmatch(text) else None


class _Progress:
    """Tells how far a blob is, how fast it comes and how long it will take."""

    def __init__(self, blob: RemoteBlob, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self._blob = blob
        self._report = report
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()
        short = blob.digest.removeprefix("sha256:")[:12] if blob.digest else blob.shown
        self._status = f"pulling {short}"

    def show(self, completed: int, *, last: bool = False) -> None:
        """Report so many bytes."""
        now = self._clock()
        self._seen.append((now, completed))
        while now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        since, first = self._seen[0]
        rate = (completed - first) / (now - since) if now > since and completed > first else None
        total = self._blob.size or 0
        left = (total - completed) / rate if rate else None
        event = Event(
            self._status,
            "progress",
            self._blob.digest,
            total,
            completed,
            rate=rate,
            seconds_left=0.0 if last else left,
            name=self._blob.shown,
        )
        self._report(event)


def git_id(path: Path) -> str:
    """Return git's name for a file's content."""
    hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return hasher.hexdigest()
