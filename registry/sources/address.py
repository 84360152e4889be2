"""A weights file at some address: its size and version are asked before anything is fetched."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ...errors import NotSupported, RemoteError
from ..files import PART
from ..manifest import MODEL, is_safe_title
from ..remote import RemoteBlob, RemoteModel
from ..sites import Anyone, host_of
from ..web import Web
from .quants import quant_of
from .reference import Reference

_TOTAL = re.compile(r"bytes \d+-\d+/(\d{1,18})")


def resolve_address(reference: Reference, web: Web) -> RemoteModel:
    """Ask for a GGUF file's size, for all its parts where it is split; raises MullError."""
    url = reference.path
    base = unquote(urlsplit(url).path).rpartition("/")[2]
    if not base.lower().endswith(".gguf"):
        hint = "a folder of safetensors cannot be had by address; name its repository: hf.co/user/repo"
        raise NotSupported(f"{base} is not a GGUF file", hint=hint)
    part = PART.fullmatch(base)
    urls = [url]
    if part is not None:
        numbers = range(1, int(part["count"]) + 1)
        names = [f"{part['stem']}-{number:05d}-of-{part['count']}.gguf" for number in numbers]
        # Only the path's last step changes; a query (a signature) stays.
        tail = url.rindex(base) if base in url else -1
        if tail < 0 or not is_safe_title(base):
            raise NotSupported(f"{base} is split, and its parts' addresses cannot be guessed")
        urls = [url[:tail] + name + url[tail + len(base) :] for name in names]
    blobs = tuple(_probe(address, web, named=part is not None) for address in urls)
    details = {"model_format": "gguf", "file_type": quant_of(base)}
    # Never a password: manifests are shown and copied.
    parts = urlsplit(url)
    source = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return RemoteModel(reference.name, blobs, source=source, revision=blobs[0].etag or "", details=details)


def _probe(url: str, web: Web, *, named: bool) -> RemoteBlob:
    """Ask for the first bytes: that shows the size, the version, and whether it is a GGUF at all."""
    base = unquote(urlsplit(url).path).rpartition("/")[2]
    site = Anyone(base)

    def once() -> RemoteBlob:
        with web.open("GET", url, site, {"Range": "bytes=0-3"}) as response:
            whole = _TOTAL.fullmatch(response.headers.get("content-range", ""))
            length = response.headers.get("content-length", "")
            size = (
                int(whole[1])
                if whole
                else int(length)
                if length.isdecimal() and response.status_code != 206
                else None
            )
            head = b""
            for piece in web.pieces(response):
                head += piece
                if len(head) >= 4:
                    break
            if head[:4] != b"GGUF":
                kind = response.headers.get("content-type", "something else").partition(";")[0]
                raise RemoteError(
                    f"{base} of {host_of(url)} is not a GGUF file but {kind}", hint="is it a page?"
                )
            title = Path(base).name if named else None
            return RemoteBlob(
                MODEL, base, url, size, etag=response.headers.get("etag"), title=title, site=site
            )

    return web.patiently(once)
