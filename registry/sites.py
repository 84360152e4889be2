"""What is known of a server: who may see its token, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from ..errors import ModelNotFound, MullError, RemoteError

if TYPE_CHECKING:
    import httpx2


class Site(Protocol):
    """A server that models come from."""

    def headers(self, url: str) -> Mapping[str, str]:
        """Return what only this server may see; nothing for an address elsewhere."""

    def renew(self, response: httpx2.Response) -> bool:
        """Get a new token after a 401; tell whether asking again makes sense."""

    def refusal(self, status: int, headers: Mapping[str, str], url: str) -> MullError:
        """Say what a status of 400 or more means."""


@dataclass(frozen=True, slots=True)
class Anyone:
    """A server without tokens; `what` is asked of it."""

    what: str = "the file"

    def headers(self, url: str) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    def renew(self, response: httpx2.Response) -> bool:
        """There is nothing to renew."""
        return False

    def refusal(self, status: int, headers: Mapping[str, str], url: str) -> MullError:
        """Say what the status means."""
        return refusal(status, url, self.what)


def refusal(status: int, url: str, what: str) -> MullError:
    """Say what a status means where nothing more is known."""
    host = host_of(url)
    if status in (404, 410):
        return ModelNotFound(f"{host} has no {what}", hint="llm search TERM looks for models by name")
    if status in (401, 403):
        return RemoteError(f"{host} does not give {what} to everybody ({status})")
    if status == 429:
        return RemoteError(f"{host} is asked too often (429)", hint="wait some minutes, then run it again")
    if status == 416:
        return RemoteError(f"{host} has less of {what} than was announced", hint="pull it again")
    if status >= 500:
        return RemoteError(f"{host} has a fault of its own ({status})", hint="run it again later")
    return RemoteError(f"{host} refused {what} ({status})")


def host_of(url: str) -> str:
    """Return an address' host, with its port where it has one, for a message."""
    with suppress(ValueError):
        return urlsplit(url).netloc.rpartition("@")[2] or url
    return url


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port: those to whom a token given to one address may be shown."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError as error:
        raise RemoteError(f"{url!r} is no address: {error}") from error
    return parts.scheme, parts.hostname or "", port
