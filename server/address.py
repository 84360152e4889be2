"""Where a server is: `OLLAMA_HOST` and `--host` as people write them, and the sockets that listen there."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass

from ..errors import InvalidRequest, MullError
from .options import ServerOptions

PORT = 11434

_BACKLOG = 2048
_ADDRESS = re.compile(
    r"(?:(https?)://)?(?:\[([^\]]*)\]|([^:/\[\]\s]*)|([0-9a-fA-F:.%]*::?[0-9a-fA-F:.%]*))(?::([0-9]+))?(/.*)?"
)


class CannotListen(MullError):
    """An address that somebody else listens on, or that is none of this machine's."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address as it is written: `scheme://host:port`."""

    host: str = "127.0.0.1"
    port: int = PORT
    scheme: str = "http"

    @property
    def url(self) -> str:
        """The address for clients: one that stands for all of this machine's becomes the loopback."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}.get(
            self.host, self.host
        )
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"


def parse_address(text: str, source: str = "host") -> Address:
    """Read `host`, `host:port`, `:port`, `http://host:port`; a scheme without a port means the scheme's own.

    Raises InvalidRequest.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or len(match[5] or "") > 5 or int(match[5] or 0) > 65535:
        raise InvalidRequest(f"{source}: {text[:80]!r} is no address such as 127.0.0.1:{PORT}", field="host")
    scheme, host = match[1], match[2] or match[3] or match[4] or ""
    usual = {"http": 80, "https": 443}.get(scheme or "", PORT)
    port = int(match[5]) if match[5] else usual
    return Address(host or ("" if match[2] is not None else "127.0.0.1"), port, scheme or "http")


def listen(options: ServerOptions) -> list[socket.socket]:
    """Return the sockets of a server, bound and listening; raises CannotListen."""
    if options.socket is not None:
        return [_listen_on_path(options.socket)]
    where = Address(options.host, options.port).url.removeprefix("http://")
    sockets: list[socket.socket] = []
    port = options.port
    try:
        host = None if options.host in ("", "*") else options.host.strip("[]")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sockets.append(_bound(family, kind, protocol, (address[0], port, *address[2:])))
            except OSError as error:
                # A machine may have no IPv6 and still know the name of its loopback.
                if not sockets or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
            port = sockets[0].getsockname()[1]
    except OSError as error:
        for each in sockets:
            each.close()
        if error.errno == errno.EADDRINUSE:
            hint = "is a server running there already? `llm ps` asks it; --port chooses another port"
            raise CannotListen(f"{where} is in use", hint=hint) from error
        reason = (error.strerror or str(error)).lower()
        raise CannotListen(f"cannot listen on {where}: {reason}", hint="--host, --port") from error
    return sockets


def _bound(family: int, kind: int, protocol: int, address: tuple[str | int, ...]) -> socket.socket:
    """Return a listening socket."""
    new = socket.socket(family, kind, protocol)
    try:
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            new.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        new.bind(address)
        new.listen(_BACKLOG)
    except BaseException:
        new.close()
        raise
    return new


def _listen_on_path(path: str) -> socket.socket:
    """Return a listening Unix socket that only its owner may use; a dead one of that path gives way."""
    new = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
            if new.connect_ex(path) == 0:
                raise CannotListen(f"{path} is in use", hint="a server runs there already")
            os.unlink(path)
            new.close()
            new = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            new.bind(path)
        finally:
            os.umask(before)
        new.listen(_BACKLOG)
    except OSError as error:
        new.close()
        raise CannotListen(f"cannot listen on {path}: {(error.strerror or str(error)).lower()}") from error
    except BaseException:
        new.close()
        raise
    return new


def leave_path(path: str) -> None:
    """Remove a Unix socket that nobody listens on any more."""
    with suppress(OSError):
        os.unlink(path)
