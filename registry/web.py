"""Requests to other machines: redirects followed by hand, tokens kept at home, failures worth another try."""

from __future__ import annotations

import email.utils
import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx2

from .. import __version__
from ..errors import Cancelled, MullError, RemoteError, Unreachable
from .sites import Site, host_of, origin_of

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_SMALL = 16 << 20  # bytes; more than any list of files or manifest takes
_CONNECT = 15.0  # seconds
_UNREACHED = 2  # tries

Result = TypeVar("Result")


class TryAgain(Exception):
    """A failure that may pass; `error` says what to tell the user if it does not, `after` seconds to wait.

    unreached: whether there was no connection to begin with.
    """

    def __init__(self, error: MullError, after: float | None = None, *, unreached: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.after = after
        self.unreached = unreached


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one waits: seconds without a byte, tries without progress, the pauses between them."""

    stall: float = 30.0
    tries: int = 6
    pause: float = 0.5
    longest: float = 60.0

    def wait(self, failures: int, asked: float | None = None) -> float:
        """Return the seconds to wait after so many failures; `asked`: what the server asked for."""
        grown = self.pause * 2.0**failures * random.uniform(0.75, 1.25)
        return min(self.longest, max(grown, asked or 0.0))


class Cancellation:
    """A wish to stop that any thread may state and that ends waits at once."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """State the wish."""
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise Cancelled if the wish was stated."""
        if self._event.is_set():
            raise Cancelled("the transfer was cancelled", hint="what has arrived is kept for the next time")

    def sleep(self, seconds: float) -> None:
        """Sleep; raise Cancelled as soon as the wish is stated."""
        self._event.wait(seconds)
        self.check()


class Web:
    """One pool of connections; proxies and certificates are those of the environment."""

    def __init__(self, patience: Patience | None = None, cancelled: Cancellation | None = None) -> None:
        self.patience = patience or Patience()
        self.cancelled = Cancellation() if cancelled is None else cancelled
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._client = httpx2.Client(
            headers={"User-Agent": f"mull/{__version__}", "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(
                self.patience.stall, connect=min(_CONNECT, self.patience.stall), pool=None
            ),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=16),
            follow_redirects=False,
        )

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.stop()
        self._client.close()

    def stop(self) -> None:
        """Wake every thread that waits for an answer or its bytes; its read fails."""
        with self._lock:
            for found in self._sockets:
                with suppress(OSError):
                    found.shutdown(socket.SHUT_RDWR)
            self._sockets.clear()

    def _note(self, step: str, seen: Mapping[str, Any]) -> None:
        """Keep each new connection's socket for `stop`: an answer that has not begun shows nobody its own."""
        if step.endswith((".connect_tcp.complete", ".start_tls.complete")):
            found = seen["return_value"].get_extra_info("socket")
            with self._lock:
                known = [old for old in self._sockets if old.fileno() >= 0]
                self._sockets = known if found is None else [*known, found]

    @contextmanager
    def open(
        self,
        method: str,
        url: str,
        site: Site,
        headers: Mapping[str, str] | None = None,
        content: Iterable[bytes] | bytes | None = None,
    ) -> Iterator[httpx2.Response]:
        """Yield a response below 400 with its body unread, redirects followed.

        Raises TryAgain for what may pass, and what `site` makes of any other status.
        """
        self.cancelled.check()
        response = self._follow(method, url, site, dict(headers or {}), content)
        try:
            yield response
        finally:
            response.close()

    def pieces(self, response: httpx2.Response) -> Iterator[bytes]:
        """Yield a body as it comes; raises TryAgain where it breaks off."""
        with transport_errors(str(response.url)):
            yield from response.iter_raw()

    def small(self, response: httpx2.Response) -> bytes:
        """Return a body that no honest server makes large; raises RemoteError, and TryAgain as `pieces` does."""
        body = bytearray()
        for piece in self.pieces(response):
            body += piece
            if len(body) > _SMALL:
                raise RemoteError(
                    f"{host_of(str(response.url))} sent more than {_SMALL} bytes where few were due"
                )
        return bytes(body)

    def fetch(
        self, url: str, site: Site, headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, Mapping[str, str]]:
        """Return a small answer and its headers, asking again while that may help."""

        def once() -> tuple[bytes, Mapping[str, str]]:
            with self.open("GET", url, site, headers) as response:
                return self.small(response), response.headers

        return self.patiently(once)

    def fetch_json(self, url: str, site: Site, headers: Mapping[str, str] | None = None) -> object:
        """Return a small JSON answer; raises RemoteError where it is none."""
        body, _ = self.fetch(url, site, headers)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RemoteError(f"{host_of(url)} sent no JSON: {error}") from error

    def patiently(self, once: Callable[[], Result]) -> Result:
        """Call `once` until it does not raise TryAgain, or patience ends; then raise what it complained of.

        A server that cannot be reached at all is given up soon: whoever has no network wants to know.
        """
        failures = 0
        while True:
            try:
                return once()
            except TryAgain as failure:
                failures += 1
                tries = min(_UNREACHED, self.patience.tries) if failure.unreached else self.patience.tries
                if failures >= tries:
                    raise failure.error from failure
                self.cancelled.sleep(self.patience.wait(failures - 1, failure.after))

    def _follow(
        self,
        method: str,
        url: str,
        site: Site,
        headers: dict[str, str],
        content: Iterable[bytes] | bytes | None,
    ) -> httpx2.Response:
        renewed = False
        for _ in range(_MOST_REDIRECTS):
            _check_scheme(url)
            with transport_errors(url):
                # The site decides for each address anew what may be shown there.
                sent = {**headers, **site.headers(url)}
                request = self._client.build_request(
                    method, url, headers=sent, content=content, extensions={"trace": self._note}
                )
                response = self._client.send(request, stream=True)
            if response.status_code in _REDIRECTS and "location" in response.headers:
                response.close()
                url = next_address(url, response.headers["location"])
                continue
            if response.status_code < 400:
                return response
            response.close()
            if response.status_code == 401 and not renewed and site.renew(response):
                renewed = True
                continue
            error = site.refusal(response.status_code, response.headers, url)
            if response.status_code in _TRANSIENT:
                raise TryAgain(error, _retry_after(response.headers.get("retry-after")))
            raise error
        raise RemoteError(f"{host_of(url)} redirects in circles")


@contextmanager
def transport_errors(url: str) -> Iterator[None]:
    """Turn what goes wrong on the way into TryAgain with an Unreachable."""
    try:
        yield
    except httpx2.ProxyError as error:
        hint = "the proxy is the one that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names"
        message = f"the proxy does not reach {host_of(url)}: {error}"
        raise TryAgain(Unreachable(message, hint=hint), unreached=True) from error
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        unreachable = Unreachable(f"cannot reach {host_of(url)}: {_reason(error)}", hint=_WAIT)
        raise TryAgain(unreachable, unreached=True) from error
    except httpx2.TimeoutException as error:
        raise TryAgain(Unreachable(f"{host_of(url)} has gone silent", hint=_WAIT)) from error
    except httpx2.TransportError as error:
        raise TryAgain(Unreachable(f"cannot reach {host_of(url)}: {_reason(error)}", hint=_WAIT)) from error
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise RemoteError(f"{url!r} is no address: {error}") from error


_WAIT = "is there a network, or a proxy to name in HTTPS_PROXY?"


def _reason(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if "Name or service" in text or "nodename" in text or "Temporary failure in name" in text:
        return "its name is unknown here"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate cannot be trusted (SSL_CERT_FILE names more authorities)"
    return re.sub(r"^\[Errno -?\d+\] (.)", lambda found: found[1].lower(), text)


def _check_scheme(url: str) -> None:
    scheme, host, _ = origin_of(url)
    if scheme not in ("http", "https") or not host:
        raise RemoteError(f"{url!r} is not an address that can be asked")


def next_address(url: str, location: str) -> str:
    """Return where the location that an answer names is; raise RemoteError if what was encrypted would no longer be."""
    try:
        target = urljoin(url, location)
    except ValueError as error:
        raise RemoteError(f"{host_of(url)} redirects to {location!r}, which is no address") from error
    if origin_of(url)[0] == "https" and origin_of(target)[0] != "https":
        raise RemoteError(f"{host_of(url)} redirects to {host_of(target)} without encryption")
    return target


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After asks for: a number, or a date."""
    if value is None:
        return None
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
