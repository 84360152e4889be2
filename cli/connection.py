"""A running server as the command line asks it: over HTTP, on a port or a Unix socket; with the standard library."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlencode

from ..errors import MullError
from ..server.address import Address, parse_address
from ..settings import load_serving

Json = dict[str, object]

_PROBE = 0.1
_TIMEOUT = 10.0


class NoServer(MullError):
    """Nobody listens where a server was looked for, or somebody else does."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and the key to it."""

    address: Address
    path: str | None = None
    key: str | None = None

    @property
    def url(self) -> str:
        """What people call it."""
        return self.path or self.address.url

    @property
    def is_local(self) -> bool:
        """Whether it is certain to run on this machine."""
        host = Address(self.address.host).url.removeprefix("http://").rpartition(":")[0].strip("[]")
        try:
            return self.path is not None or host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout: float | None = _TIMEOUT,
    ) -> Json:
        """Return the answer to a request as JSON; raises the error that it tells of, and NoServer."""
        connection = self.open(timeout)
        try:
            with self.send(
                connection, method, path if query is None else f"{path}?{urlencode(query)}", body
            ) as reply:
                return _json(reply.read() or b"{}")
        except (OSError, HTTPException) as error:
            raise self._lost(error) from error
        finally:
            connection.close()

    def open(self, timeout: float | None) -> HTTPConnection:
        """Return a connection, not yet connected; no wait on it is longer than timeout seconds."""
        if self.path is not None:
            return _PathConnection(self.path, timeout)
        host, port = self.address.url.partition("://")[2].rsplit(":", 1)
        host = host.strip("[]")
        if self.address.scheme == "https":
            return HTTPSConnection(host, int(port), timeout=timeout, context=self._tls())
        return HTTPConnection(host, int(port), timeout=timeout)

    def send(self, connection: HTTPConnection, method: str, path: str, body: object = None) -> HTTPResponse:
        """Send a request and return its answer once that begins; raises the error that it tells of."""
        self.post(connection, method, path, body)
        return self.answer(connection)

    def post(self, connection: HTTPConnection, method: str, path: str, body: object) -> None:
        """Send a request; raises NoServer."""
        headers = {"Content-Type": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, data, headers)
        except (OSError, HTTPException) as error:
            raise self._lost(error) from error

    def answer(self, connection: HTTPConnection) -> HTTPResponse:
        """Wait for the answer to what was posted; raises the error that it tells of, and NoServer."""
        from ..server.adapters.native import read_error

        try:
            reply = connection.getresponse()
            if reply.status < 400:
                return reply
            told = _json(reply.read())
        except (OSError, HTTPException) as error:
            raise self._lost(error) from error
        if isinstance(told.get("error"), str):  # as Ollama's dialect has it
            told = {"error": {"message": told["error"], "hint": told.get("hint")}}
        raise read_error(told)

    def lines(self, reply: HTTPResponse) -> Iterator[Json]:
        """Yield the objects of a stream as they come; raises NoServer if it breaks off."""
        try:
            while line := reply.readline():
                yield _json(line)
        except (OSError, HTTPException, ValueError) as error:
            raise self._lost(error) from error

    def _tls(self) -> ssl.SSLContext:
        """Return whom to trust; this machine's own server may have signed its certificate itself."""
        context = ssl.create_default_context()
        if self.is_local:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _lost(self, error: Exception) -> NoServer:
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
        return NoServer(
            f"no server answers at {self.url}: {reason}",
            hint="llm serve starts one; OLLAMA_HOST names another",
        )


def configured_server() -> Server:
    """Return where a server is, if there is one: as the environment says, or this machine's usual port."""
    said = load_serving()
    host = parse_address(said["host"][1], said["host"][0]) if "host" in said else Address()
    if "port" in said and said["port"][1].isdigit():
        host = Address(host.host, int(said["port"][1]), host.scheme)
    if "tls_cert" in said and host.scheme == "http":
        host = Address(host.host, host.port, "https")
    key = said["api_key"][1].split(",")[0].strip() if "api_key" in said else None
    return Server(host, said["socket"][1] if "socket" in said else None, key)


def running_server() -> Server | None:
    """Return this machine's server if it is one of ours and answers at once."""
    server = configured_server()
    if not server.is_local:
        return None
    try:
        is_ours = server.ask("GET", "/mull/server", timeout=_PROBE).get("server") == "mull"
    except MullError:
        return None
    return server if is_ours else None


def loaded_models() -> list[Mapping[str, object]]:
    """Return what the configured server has in memory, as Ollama's API tells it; raises NoServer."""
    told = configured_server().ask("GET", "/api/ps").get("models")
    return (
        [model for model in told if isinstance(model, dict) and "name" in model]
        if isinstance(told, list)
        else []
    )


class _PathConnection(HTTPConnection):
    """A connection over a Unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _json(data: bytes) -> Json:
    try:
        value = json.loads(data)
    except ValueError:
        raise NoServer(f"what answers is no server of ours: {data[:60]!r}") from None
    return value if isinstance(value, dict) else {"error": str(value)[:200]}
