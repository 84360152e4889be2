"""Stored models against where they were pulled from: what is newer there, and what is damaged here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from ..errors import Cancelled, MullError, RemoteError, StoreError
from ..settings import Remotes
from .disk import disk_errors, hash_file
from .download import Download, git_id
from .events import Event, Report
from .foreign import find_copy
from .manifest import Layer
from .pull import resolve
from .remote import RemoteBlob, RemoteModel
from .sources.quants import in_gb
from .sources.reference import parse_reference
from .store import Entry, Store
from .web import Web


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is not what its name says."""

    layer: Layer
    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class News:
    """What a source says of a stored model: "current", "newer", "gone", "unknown" or "local"."""

    entry: Entry
    status: str
    detail: str = ""


def verify(store: Store, entries: Iterable[Entry], report: Report) -> Iterator[Damage]:
    """Hash every blob of models once; yield those that are missing or damaged."""
    owners: dict[Layer, list[str]] = {}
    unique: dict[str, Layer] = {}
    for entry in entries:
        for layer in (entry.manifest.config, *entry.manifest.layers):
            first = unique.setdefault(layer.digest, layer)
            names = owners.setdefault(first, [])
            if entry.name.short() not in names:
                names.append(entry.name.short())
    for layer, names in owners.items():
        reason = _fault(store, layer, report)
        if reason:
            yield Damage(layer, tuple(names), reason)


def repair(
    store: Store, entries: Iterable[Entry], damages: list[Damage], remotes: Remotes, web: Web, report: Report
) -> list[Damage]:
    """Replace damaged blobs by copies of this machine or of their sources; return those that are still damaged."""
    broken = {damage.layer.digest for damage in damages}
    left = {damage.layer.digest: damage for damage in damages}
    for damage in damages:
        layer = damage.layer
        copy = find_copy(layer.digest, layer.size, layer.title or "", remotes)
        with suppress(StoreError):  # another program's, and perhaps not for us to read
            if copy is not None and store.add_blob_from_file(copy)[0] == layer.digest:
                del left[layer.digest]
    download = Download(
        store.root / "partial", web, lambda digest, _: digest not in broken and store.has(digest), report
    )
    for entry in entries:
        layers = (*entry.manifest.layers, entry.manifest.config)
        wanted = {layer.digest: layer for layer in layers if layer.digest in left}
        if not wanted or not entry.manifest.source:
            continue
        try:
            for blob in _same_blobs(origin(entry, store, remotes, web, entry.manifest.revision), wanted):
                left.pop(_bring(blob, store, download), None)
        except Cancelled:
            raise
        except MullError as error:
            # One that cannot be had must not keep the others from being repaired.
            report(Event(f"{entry.name.short()}: {error.message}", "warning"))
    return list(left.values())


def _bring(blob: RemoteBlob, store: Store, download: Download) -> str:
    """Bring a blob into the store, from this machine or another one; return the digest that it turns out to have."""
    if blob.path is not None:
        return store.add_blob_from_file(blob.path)[0]
    arrived = download.run(blob)
    if arrived.path is not None:
        store.take_blob(arrived.path, arrived.digest)
    return arrived.digest


def origin(
    entry: Entry, store: Store, remotes: Remotes, web: Web, revision: str | None = None
) -> RemoteModel:
    """Ask a model's source for it; raises MullError."""
    reference = parse_reference(entry.manifest.source)
    earlier = revision if reference.source in ("hub", "modelscope") else None
    return resolve(reference, store, remotes, web, insecure=reference.plain, revision=earlier)


def news(store: Store, entries: Iterable[Entry], remotes: Remotes, web: Web) -> Iterator[News]:
    """Compare stored models with what their sources have now."""
    for entry in entries:
        if not entry.manifest.source or entry.manifest.source.startswith("file:"):
            yield News(entry, "local", "made on this machine")
            continue
        try:
            now = origin(entry, store, remotes, web)
        except RemoteError as error:
            yield News(entry, "unknown", error.message)
        except MullError as error:
            yield News(entry, "gone", error.message)
        else:
            changed = [blob for blob in now.blobs if not _is_stored(blob, entry, store)]
            fewer = len(entry.manifest.layers) - len(now.blobs)
            if changed or fewer > 0:
                size = sum(blob.size or 0 for blob in changed)
                yield News(entry, "newer", f"{len(changed)} of {len(now.blobs)} files, {in_gb(size)}")
            else:
                yield News(entry, "current")


def _is_stored(blob: RemoteBlob, entry: Entry, store: Store) -> bool:
    """Tell whether a model has the blob that its source has now."""
    layers = [layer for layer in entry.manifest.layers if layer.media_type == blob.media_type]
    if blob.digest is not None:
        return any(layer.digest == blob.digest for layer in layers)
    alike = [layer for layer in layers if layer.title == blob.title and blob.size in (None, layer.size)]
    if blob.git_id is not None:
        present = [layer for layer in alike if store.has(layer.digest)]
        with disk_errors("read the model store"):
            return any(git_id(store.blob_path(layer.digest)) == blob.git_id for layer in present)
    return bool(alike) and blob.etag in (None, entry.manifest.revision)


def _same_blobs(model: RemoteModel, wanted: dict[str, Layer]) -> Iterator[RemoteBlob]:
    """Yield the blobs of a source that should have the wanted digests."""
    titles = {(layer.media_type, layer.title, layer.size) for layer in wanted.values()}
    for blob in (*model.blobs, *([model.config] if model.config else [])):
        if blob.digest in wanted or (
            blob.digest is None and (blob.media_type, blob.title, blob.size) in titles
        ):
            yield blob


def _fault(store: Store, layer: Layer, report: Report) -> str:
    path = store.blob_path(layer.digest)
    shown = layer.title or layer.digest.removeprefix("sha256:")[:12]

    def show(done: int, total: int) -> None:
        report(Event("verifying sha256 digest", "progress", layer.digest, total, done, name=shown))

    if not path.is_file():
        return "" if _is_bundled(store, layer) else "missing"
    if path.stat().st_size != layer.size:
        return f"has {path.stat().st_size} bytes, and not {layer.size}"
    try:
        return "" if hash_file(path, show)[0] == layer.digest else "its bytes were changed"
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"


def _is_bundled(store: Store, layer: Layer) -> bool:
    """Tell whether a small blob is the bundled model's, which lies nowhere."""
    try:
        return len(store.read_blob(layer.digest)) == layer.size
    except MullError:
        return False
