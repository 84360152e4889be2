"""Registries that keep models as Docker keeps images: manifests and blobs by digest, read and written."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlencode, urlsplit

import httpx2

from ..errors import InvalidRequest, ModelNotFound, MullError, RemoteError, StoreError
from .disk import disk_errors
from .events import Event, Report
from .manifest import MANIFEST, Layer, Manifest
from .name import DEFAULT_HOST, ModelName
from .sites import host_of, origin_of, refusal
from .web import Web, next_address

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_ACCEPT = f"{MANIFEST}, {OCI_MANIFEST}"
_PIECE = 16 << 20  # bytes of one PATCH
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Registry:
    """One model's place in one registry; a `Site`: its tokens are shown to the registry alone."""

    def __init__(self, name: ModelName, web: Web, docker_config: Path, *, plain: bool = False) -> None:
        self.name = name
        self.host = name.host
        self._web = web
        self._authorization: str | None = None
        self._password = _password(docker_config, name.host)
        self.plain = plain or is_loopback(name.host)
        self.base = f"{'http' if self.plain else 'https'}://{name.host}/v2/{name.namespace}/{name.model}"

    # A Site

    def headers(self, url: str) -> Mapping[str, str]:
        """Return the token for the registry, and nothing for where it redirects to."""
        if self._authorization is None or origin_of(url) != origin_of(self.base):
            return {}
        return {"Authorization": self._authorization}

    def renew(self, response: httpx2.Response) -> bool:
        """Answer a challenge: fetch a token where the registry says that tokens are given."""
        if origin_of(str(response.url)) != origin_of(self.base):
            return False
        scheme, _, rest = response.headers.get("www-authenticate", "").partition(" ")
        known = dict(_CHALLENGE.findall(rest))
        if scheme.lower() == "basic" and self._password is not None:
            before, self._authorization = self._authorization, f"Basic {self._password}"
            return before != self._authorization
        realm = known.get("realm", "")
        if scheme.lower() != "bearer" or not realm:
            return False
        if origin_of(realm)[0] != "https" and not self.plain:
            raise RemoteError(f"{self.host} would have its tokens fetched without encryption")
        asked = urlencode({key: known[key] for key in ("service", "scope") if key in known})
        url = f"{realm}{'&' if '?' in realm else '?'}{asked}"
        with self._web.open("GET", url, _TokenSite(url, self._password)) as answer:
            body = self._web.small(answer)
        with suppress(ValueError, AttributeError):
            found = json.loads(body)
            token = found.get("token") or found.get("access_token")
            if isinstance(token, str) and token:
                self._authorization = f"Bearer {token}"
                return True
        raise RemoteError(f"{self.host}: its token server sent no token")

    def refusal(self, status: int, headers: Mapping[str, str], url: str) -> MullError:
        """Say what the registry means."""
        if status == 404 or (status == 401 and self.host == DEFAULT_HOST and "/uploads" not in url):
            return ModelNotFound(
                f"{self.host} has no model '{self.name}'", hint="llm search TERM looks on Hugging Face"
            )
        if status in (401, 403) and origin_of(url) == origin_of(self.base):
            hint = f"docker login {self.host}"
            if self.host == DEFAULT_HOST:
                hint = "Ollama's registry takes models signed with Ollama's own key only; push to another"
            elif self._password is not None:
                hint = f"the password of ~/.docker/config.json does not suffice: docker login {self.host}"
            error = RemoteError(f"{self.host} does not allow this ({status})", hint=hint)
            error.status = status
            return error
        return refusal(status, url, f"'{self.name}'")

    # Reading

    def manifest(self) -> bytes:
        """Return the manifest's bytes; raises ModelNotFound or RemoteError."""
        url = f"{self.base}/manifests/{quote(self.name.tag)}"
        return self._web.fetch(url, self, {"Accept": _ACCEPT})[0]

    def blob_url(self, digest: str) -> str:
        """Return where a blob lies."""
        return f"{self.base}/blobs/{digest}"

    # Writing

    def has(self, digest: str) -> bool:
        """Tell whether the registry has a blob."""

        def once() -> bool:
            try:
                with self._web.open("HEAD", self.blob_url(digest), self):
                    return True
            except ModelNotFound:
                return False

        return self._web.patiently(once)

    def upload(self, path: Path, layer: Layer, report: Report) -> None:
        """Send a blob; where the connection breaks it is sent anew, a few times."""

        def once() -> None:
            with disk_errors(f"read {path}"), open(path, "rb") as file:
                self._upload(file, layer, report)

        self._web.patiently(once)

    def upload_bytes(self, data: bytes, layer: Layer, report: Report) -> None:
        """Send a small blob that is no file."""
        self._web.patiently(lambda: self._upload(io.BytesIO(data), layer, report))

    def put_manifest(self, manifest: Manifest) -> None:
        """Give the name to what was uploaded."""
        url, body = f"{self.base}/manifests/{quote(self.name.tag)}", manifest.to_bytes()

        def once() -> None:
            with self._web.open("PUT", url, self, {"Content-Type": MANIFEST}, body):
                pass

        self._web.patiently(once)

    def _upload(self, file: BinaryIO, layer: Layer, report: Report) -> None:
        location = self._begin(f"{self.base}/blobs/uploads/")
        status, sent = f"pushing {layer.digest.removeprefix('sha256:')[:12]}", 0
        while piece := file.read(_PIECE):
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{sent}-{sent + len(piece) - 1}",
            }
            with self._web.open("PATCH", location, self, headers, piece) as response:
                location = _location(response)
            sent += len(piece)
            report(Event(status, "progress", layer.digest, layer.size, sent, name=layer.title))
        if sent != layer.size:
            raise StoreError(f"blob {layer.digest} has {sent} bytes, and not {layer.size}", hint="llm verify")
        url = f"{location}{'&' if '?' in location else '?'}digest={quote(layer.digest)}"
        with self._web.open("PUT", url, self, {"Content-Length": "0"}):
            pass

    def _begin(self, url: str) -> str:
        with self._web.open("POST", url, self, {"Content-Length": "0"}) as response:
            return _location(response)


class _TokenSite:
    """The server that gives a registry's tokens: it sees the password that the user keeps for that registry."""

    def __init__(self, url: str, password: str | None) -> None:
        self._origin = origin_of(url)
        self._password = password

    def headers(self, url: str) -> Mapping[str, str]:
        """Return the password, for the token server itself only."""
        if self._password is None or origin_of(url) != self._origin:
            return {}
        return {"Authorization": f"Basic {self._password}"}

    def renew(self, response: httpx2.Response) -> bool:
        """There is nothing to renew."""
        return False

    def refusal(self, status: int, headers: Mapping[str, str], url: str) -> MullError:
        """Say what the status means."""
        error = RemoteError(
            f"{host_of(url)} gives no token ({status})", hint="is the password of docker login right?"
        )
        error.status = status
        return error


def check_plain(name: ModelName, *, plain: bool, insecure: bool) -> bool:
    """Tell whether to do without encryption: only with `insecure`; raises InvalidRequest for http:// without it."""
    if plain and not insecure and not is_loopback(name.host):
        raise InvalidRequest(
            f"http://{name.host} is not encrypted", hint="add --insecure if that is as it should be"
        )
    return insecure


def is_loopback(host: str) -> bool:
    """Tell whether a host (with a port or not) is this machine."""
    bare = urlsplit(f"//{host}").hostname or ""
    if bare == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(bare).is_loopback
    return False


def _location(response: httpx2.Response) -> str:
    found = response.headers.get("location")
    if not found:
        raise RemoteError("the registry does not say where to send a blob")
    return next_address(str(response.url), found)


def _password(config: Path, host: str) -> str | None:
    """Return `user:password` in base64 as `docker login` left it for a registry."""
    with suppress(OSError, ValueError, KeyError, AttributeError, TypeError):
        found = json.loads(config.read_bytes())["auths"]
        for key in (host, f"https://{host}", f"https://{host}/v1/", f"http://{host}"):
            value = found.get(key, {}).get("auth")
            if isinstance(value, str) and base64.b64decode(value, validate=True):
                return value
    return None
