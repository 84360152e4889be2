"""What takes room in the store, and what of it nobody needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .blobs import is_idle
from .disk import TEMPORARY, disk_errors
from .manifest import DIGEST
from .partial import Partial, pulling
from .store import GRACE, Entry, Store

_ENDINGS = (".ranges", ".lock", ".done", ".is")


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of one model: all, and those that only it needs, which `llm rm` frees."""

    entry: Entry
    size: int
    own: int


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A download that has not ended: bytes on the disk, and whether a process is at it."""

    key: str
    nbytes: int
    active: bool


def usage(store: Store) -> list[Usage]:
    """Measure every model of the store."""
    entries = [entry for entry in store.list() if not entry.bundled]
    sizes = {e.name: {x.digest: x.size for x in (e.manifest.config, *e.manifest.layers)} for e in entries}
    owners = Counter(digest for blobs in sizes.values() for digest in blobs)
    out = []
    for entry in entries:
        blobs = sizes[entry.name]
        own = sum(size for digest, size in blobs.items() if owners[digest] == 1)
        out.append(Usage(entry, sum(blobs.values()), own))
    return sorted(out, key=lambda item: -item.size)


def unfinished(store: Store) -> list[Unfinished]:
    """List the downloads that have not ended."""
    out = []
    for key in _keys(store):
        partial = Partial(store.root / "partial", key)
        nbytes = sum(_nbytes(path) for path in (partial.path, partial.done))
        if nbytes:
            out.append(Unfinished(key, nbytes, partial.busy()))
    return out


def drop_unfinished(store: Store) -> int:
    """Delete the downloads that were given up; return the bytes freed. While a model is being pulled all stay."""
    freed, folder = 0, store.root / "partial"
    with ExitStack() as stack:
        if not folder.is_dir() or not stack.enter_context(pulling(store.root, alone=True)):
            return 0
        for key in _keys(store):
            partial = Partial(folder, key)
            freed += _nbytes(partial.path) + _nbytes(partial.done)
            with disk_errors("delete a download"):
                partial.discard()
                _forget(store, folder / f"{key}.is")
    for path in folder.glob(f"{TEMPORARY}*"):
        if is_idle(path, GRACE):  # a process that was killed left it
            path.unlink(missing_ok=True)
    return freed


def unused_blobs(store: Store) -> dict[str, int]:
    """Return the blobs that no model mentions, with their sizes."""
    used = {x.digest for entry in store.list() for x in (entry.manifest.config, *entry.manifest.layers)}
    blobs = store.root / "blobs"
    found = {}
    for path in blobs.iterdir() if blobs.is_dir() else ():
        digest = path.name.replace("-", ":")
        if DIGEST.fullmatch(digest) and digest not in used:
            found[digest] = _nbytes(path)
    return found


def _forget(store: Store, memo: Path) -> None:
    """Delete what is remembered of a blob that is gone."""
    digest = memo.read_text("ascii", "replace").strip() if memo.is_file() else ""
    if not (DIGEST.fullmatch(digest) and store.has(digest)):
        memo.unlink(missing_ok=True)


def _keys(store: Store) -> Iterator[str]:
    folder = store.root / "partial"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    keys = set()
    for name in names:
        ending = next((ending for ending in _ENDINGS if name.endswith(ending)), "")
        keys.add(name.removesuffix(ending))
    yield from sorted(key for key in keys if not key.startswith("."))


def _nbytes(path: Path) -> int:
    """Return what a file takes on the disk: holes take nothing."""
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0
