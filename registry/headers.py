"""The headers of models that lie elsewhere, fetched by ranges into files of the true sizes that are otherwise holes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ..errors import NotSupported, RemoteError
from .disk import disk_errors
from .manifest import FILE, MODEL, is_safe_title
from .remote import RemoteBlob
from .sites import host_of
from .web import TryAgain, Web

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_WHOLE = ("config.json", "generation_config.json", "model.safetensors.index.json")
_LARGEST = 64 << 20  # bytes of a file that is fetched whole


class Wanted(Protocol):
    """The bytes that a header needs: the file's first `head`, and ranges (start, end) of what follows them."""

    @property
    def head(self) -> int: ...
    @property
    def beside(self) -> Sequence[tuple[int, int]]: ...


Needs = Callable[[Path, bytes, int], Wanted]
"""Says what is wanted of a file, given its name, the first bytes that are there (none at first) and its size."""


@contextmanager
def fetched_headers(blobs: Sequence[RemoteBlob], needs: Needs, web: Web) -> Iterator[Path]:
    """Yield a file or folder that opens as the model itself would, of which only headers are there.

    It is gone afterwards. Raises MullError where a file is not what it should be, or cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="mull-fit-") as name:
        with disk_errors("write headers"):
            path = _fetch_all(blobs, Path(name), needs, web)
        yield path


def _fetch_all(blobs: Sequence[RemoteBlob], folder: Path, needs: Needs, web: Web) -> Path:
    """Fetch what describes the weights; return what is to be opened."""
    weights = [blob for blob in blobs if blob.media_type == MODEL]
    for number, blob in enumerate(weights):
        _fetch(blob, folder / (_title(blob) or f"model-{number}.gguf"), needs, web)
    for blob in () if weights else blobs:
        title = _title(blob)
        if blob.media_type != FILE or title is None:
            continue
        if title.endswith(".safetensors"):
            _fetch(blob, folder / title, needs, web)
        elif title in _WHOLE:
            _fetch(blob, folder / title, _all_of_it, web)
    return folder / (_title(weights[0]) or "model-0.gguf") if weights else folder


def _title(blob: RemoteBlob) -> str | None:
    """Return the name that a blob's file gets, where names matter or the source tells one."""
    if blob.title is not None:
        return blob.title
    return blob.shown if is_safe_title(blob.shown) and blob.shown.lower().endswith(".gguf") else None


def _fetch(blob: RemoteBlob, path: Path, needs: Needs, web: Web) -> None:
    """Write what is wanted of a blob into a file of its size."""
    size = blob.size if blob.size is not None else _size(blob, web)
    name = Path(path.name)  # of the file there, and not of its place here
    wanted, head = needs(name, b"", size), b""
    with path.open("wb") as file:
        file.truncate(size)
        while len(head) < min(size, wanted.head):
            more = _range(blob, web, len(head), min(size, wanted.head), size)
            file.write(more)
            head += more
            wanted = needs(name, head, size)
        for start, end in wanted.beside:
            file.seek(start)
            file.write(_range(blob, web, start, end, size))


class _Whole:
    """All bytes of a small file."""

    beside: tuple[tuple[int, int], ...] = ()

    def __init__(self, head: int) -> None:
        self.head = head


def _all_of_it(path: Path, head: bytes, size: int) -> Wanted:
    if size > _LARGEST:
        raise RemoteError(f"{path.name} of {size} bytes is larger than any file of its kind")
    return _Whole(size)


def _size(blob: RemoteBlob, web: Web) -> int:
    """Ask how large a blob is that nobody has said it of."""

    def once() -> int:
        with web.open("GET", blob.url, blob.site, {"Range": "bytes=0-0"}) as response:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            with suppress(ValueError):
                return int(found[3] if found else response.headers.get("content-length", ""))
        raise NotSupported(f"{host_of(blob.url)} does not say how large {blob.shown} is", hint="llm pull it")

    return web.patiently(once)


def _range(blob: RemoteBlob, web: Web, start: int, end: int, size: int) -> bytes:
    """Return some bytes of a blob; a server without ranges sends all that comes before them too."""

    def once() -> bytes:
        with web.open("GET", blob.url, blob.site, {"Range": f"bytes={start}-{end - 1}"}) as response:
            skip = start
            if response.status_code == 206:
                found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
                if found is None or int(found[1]) != start or found[3] not in ("*", str(size)):
                    raise RemoteError(
                        f"{host_of(blob.url)} sent another range of {blob.shown} than it was asked for"
                    )
                skip = 0
            got = bytearray()
            for piece in web.pieces(response):
                got += piece[skip:]
                skip = max(0, skip - len(piece))
                if len(got) >= end - start:
                    return bytes(got[: end - start])
        raise TryAgain(RemoteError(f"{host_of(blob.url)} sent fewer bytes of {blob.shown} than it announced"))

    return web.patiently(once)
