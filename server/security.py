"""Who may ask: names of this machine, pages of allowed origins, holders of a key; and how much one request may send."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import MullError
from .dialects import error_response
from .options import ServerOptions

OUR_ORIGINS = (
    *(
        f"{scheme}://{host}"
        for scheme in ("http", "https")
        for host in ("localhost", "127.0.0.1", "0.0.0.0", "[::1]")
    ),
    *(
        f"{scheme}://{host}:*"
        for scheme in ("http", "https")
        for host in ("localhost", "127.0.0.1", "0.0.0.0", "[::1]")
    ),
    *(f"{scheme}://*" for scheme in ("app", "file", "tauri", "vscode-webview", "vscode-file")),
)
"""Pages that may always ask, as Ollama has them: this machine's own and those of installed programs."""

_PUBLIC = ("/", "/health", "/v1/health", "/favicon.ico")
_ASSETS = "/page/"  # the page itself asks for the key
_LOCAL_ENDS = (".localhost", ".local", ".internal")
_UPLOADS = "/api/blobs/"
_METHODS = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
_DAY_HALF = "43200"


class Refused(MullError):
    """A request from where none may come."""

    status = 403


class Unauthorized(MullError):
    """A request without a key, or with a wrong one."""

    status = 401


class BodyTooLarge(MullError):
    """A request of more bytes than the server takes."""

    status = 413


class Gate:
    """Lets requests through to the application that may come, and answers the others itself."""

    def __init__(self, app: ASGIApp, options: ServerOptions) -> None:
        self._app = app
        self._max_body = options.max_body
        self._keys = [_digest(key) for key in options.api_keys]
        self._checks_hosts = options.socket is None and is_loopback(options.host)
        self._origins = [_pattern(origin) for origin in (*OUR_ORIGINS, *options.origins)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        origin = headers.get("origin")
        try:
            self._check_host(headers)
            allowed = self._check_origin(origin, headers, path)
            if allowed is not None:
                send = _with_headers(send, allowed)
            if scope["method"] == "OPTIONS":
                await Response(status_code=204, headers=_preflight(headers))(scope, receive, send)
                return
            self._check_key(path, scope["method"], headers)
            receive = self._limited(path, headers, receive)
        except MullError as error:
            wanted = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else None
            await error_response(scope, error, headers=wanted)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """Raise Refused for a name that is not this machine's: a page may have had it point here (DNS rebinding)."""
        if self._checks_hosts and not is_own_host(headers.get("host", "")):
            raise Refused(
                "requests to this host name are not allowed; start the server with --host to allow others"
            )

    def _check_origin(self, origin: str | None, headers: Headers, path: str) -> Mapping[str, str] | None:
        """Return what a page must be told to read the answer; None if no other page asks. Raises Refused."""
        host = headers.get("host", "")
        if origin is None and path != "/" and headers.get("sec-fetch-site") == "cross-site":
            origin = ""  # an image or a link of another page: browsers do not say of which
        if origin is None or origin in (f"http://{host}", f"https://{host}"):
            return None
        if not any(pattern.fullmatch(origin) for pattern in self._origins):
            raise Refused(
                f"the origin {origin[:100]!r} is not allowed; start the server with --origins to allow it"
            )
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", "Access-Control-Expose-Headers": "*"}

    def _check_key(self, path: str, method: str, headers: Headers) -> None:
        """Raise Unauthorized unless one of the keys came; every key is compared, each in constant time."""
        is_public = path in _PUBLIC or path.startswith(_ASSETS)
        if not self._keys or (is_public and method in ("GET", "HEAD")):
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        brought = [
            _digest(headers.get("x-api-key", "")),
            _digest(token.strip() if scheme.lower() == "bearer" else ""),
        ]
        matches = [hmac.compare_digest(key, mine) for key in self._keys for mine in brought]
        if not any(matches):
            raise Unauthorized("a valid API key is needed: Authorization: Bearer KEY")

    def _limited(self, path: str, headers: Headers, receive: Receive) -> Receive:
        """Return a receive that raises BodyTooLarge beyond the limit; uploads of model files have none."""
        if path.startswith(_UPLOADS):
            return receive
        announced = headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > self._max_body:
            raise BodyTooLarge(f"the request body is {announced[:20]} bytes long, more than {self._max_body}")
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body:
                raise BodyTooLarge(f"the request body is more than {self._max_body} bytes long")
            return message

        return limited


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_own_host(header: str) -> bool:
    """Whether a Host header names this machine: by address, as localhost, by its name or a name of the local net."""
    host = re.sub(r":[0-9]*$", "", header.strip()).lower()
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        host = host.rstrip(".")
        return host in ("", "localhost", socket.gethostname().lower()) or host.endswith(_LOCAL_ENDS)
    return address.is_loopback or address.is_private or address.is_unspecified


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _pattern(origin: str) -> re.Pattern[str]:
    """Read an origin with `*` for any characters, or after a colon any port; one without a scheme has both."""
    origin = origin.strip().rstrip("/")
    if origin == "*":
        return re.compile(".*")
    scheme = "" if "://" in origin else "https?://"
    host, port = (origin[:-2], ":[0-9]+") if origin.endswith(":*") else (origin, "")
    return re.compile(scheme + "[^/]*".join(map(re.escape, host.split("*"))) + port, re.IGNORECASE)


def _preflight(headers: Headers) -> dict[str, str]:
    return {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": headers.get("access-control-request-headers", "*"),
        "Access-Control-Max-Age": _DAY_HALF,
    }


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    raw: Iterable[tuple[bytes, bytes]] = [
        (name.lower().encode(), text.encode()) for name, text in headers.items()
    ]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *raw]}
        await send(message)

    return sending
