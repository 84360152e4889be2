"""The model store: names to manifests to blobs, in one folder that several processes may use at once.

    manifests/<host>/<namespace>/<model>/<tag>   which blobs, as JSON
    blobs/sha256-<hex>                           the data, each once
    views/<digest>/<file name>                   links to blobs, for models of several named files
    .lock .names.lock .pulling                   held while changing the above; while a model is being pulled

Creation holds the lock shared, from its first blob until its manifest stands; whoever deletes blobs
holds it exclusively and keeps what any manifest mentions. Readers need no lock: every file appears
whole, by a rename. A blob may be a hard link to a user's file; where that file is edited in place,
`resolve` notices and says so.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..errors import InvalidName, ModelNotFound, NotSupported, StoreError
from .blobs import Blobs
from .bundled import POCKET, Bundled
from .disk import TEMPORARY, Progress, disk_errors, hash_file, locked, sync_folder, write_atomic
from .manifest import (
    ADAPTER,
    DRAFT,
    FILE,
    MODEL,
    PROJECTOR,
    Contents,
    Layer,
    Manifest,
    digest_of,
    read_contents,
)
from .name import ModelName, nearest
from .views import Views

GRACE = 3600.0
_MENTION = re.compile(rb"sha256[:-][0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A named model: `digest` is its manifest's and serves as its ID, `size` counts all its blobs."""

    name: ModelName
    manifest: Manifest
    digest: str
    size: int
    modified: datetime
    bundled: bool = False


class Store:
    """The models under one folder, and the bundled one."""

    def __init__(self, root: Path, *, bundled: Bundled | None = POCKET) -> None:
        self.root = root
        self.bundled = bundled
        self._manifests = root / "manifests"
        self._blobs = Blobs(root / "blobs")
        self._views = Views(root / "views")
        self._sharing: set[int] = set()

    # Reading

    def list(self, report: Callable[[StoreError], None] | None = None) -> tuple[Entry, ...]:
        """Return every model, the last modified first; hand each unreadable manifest to `report`."""
        entries = []
        for name, path in self._walk():
            try:
                entries.append(self._entry(name, path))
            except ModelNotFound:
                continue
            except StoreError as error:
                if report is not None:
                    report(error)
        bundled = self._bundled_entry()
        if bundled is not None and all(entry.name != bundled.name for entry in entries):
            entries.append(bundled)
        return tuple(sorted(entries, key=lambda entry: (-entry.modified.timestamp(), entry.name.short())))

    def find(self, name: str | ModelName, *, whole: bool = True) -> Entry:
        """Return the model of this name, whatever its case; raise ModelNotFound, or StoreError if not `whole`."""
        wanted = ModelName.parse(name) if isinstance(name, str) else name
        path = self._locate(wanted)
        if path is None:
            bundled = self._bundled_entry()
            if bundled is not None and bundled.name == wanted:
                return bundled
            raise self._not_found(name)
        entry = self._entry(self._name(path), path)
        if whole:
            self._check(entry)
        return entry

    def resolve(self, name: str | ModelName) -> Manifest:
        """Return the manifest of this name; raise ModelNotFound, or StoreError if a blob is missing."""
        return self.find(name).manifest

    def nearest(self, name: str | ModelName) -> tuple[str, ...]:
        """Return up to three names that look like this one, the likest first."""
        return nearest(name if isinstance(name, str) else name.short(), self._names())

    def read(self, manifest: Manifest) -> Contents:
        """Read all of a model but its weights."""
        return read_contents(manifest, self.read_blob, self._files)

    def model_path(self, manifest: Manifest) -> Path:
        """Return what opens the weights: a GGUF (a split one's first part) or a folder of safetensors."""
        models, files = manifest.of(MODEL), manifest.of(FILE)
        if len(models) == 1:
            return self.blob_path(models[0].digest)
        if not models and not files:
            raise StoreError("the model has no weights that can be opened", hint="create it again")
        titled = sorted(files or models, key=lambda layer: layer.title or "")
        if any(layer.title is None for layer in titled):
            raise StoreError("the model has several files without names", hint="create it again")
        with self._changing(exclusive=False):
            folder = self._views.make(titled, self.blob_path)
        return folder if files else folder / str(titled[0].title)

    def blob_path(self, digest: str) -> Path:
        """Return the file that holds a blob, or would hold it."""
        path = self._blobs.path(digest)
        if self.bundled is not None and not os.path.exists(path) and self.bundled.holds(digest):
            return self.bundled.path
        return path

    def read_blob(self, digest: str) -> bytes:
        """Return a small blob's content; raise StoreError if it is missing."""
        path = self.blob_path(digest)
        bundled = self.bundled
        if bundled is not None and not os.path.exists(path) and digest == digest_of(bundled.config()):
            return bundled.config()
        with disk_errors(f"read blob {digest}"):
            return path.read_bytes()

    def has(self, digest: str) -> bool:
        """Tell whether the store itself holds a blob."""
        return os.path.isfile(self._blobs.path(digest))

    # Changing

    @contextmanager
    def adding(self) -> Iterator[set[str]]:
        """Keep every blob in place while a model is made; at the end, delete the unused of the yielded set.

        The caller puts into the set the digests that it adds, and those that `write_manifest` returns.
        """
        doomed: set[str] = set()
        # What a killed process left behind may be as large as what is to be added.
        with suppress(StoreError):
            self.prune(wait=False)
        try:
            with self._changing(exclusive=False):
                yield doomed
        finally:
            # Tidying must not hide how the block ended, nor wait for other processes.
            with suppress(StoreError):
                self.prune(doomed, wait=False)

    def add_blob(self, data: bytes) -> tuple[str, int]:
        """Store small data; return its digest and size."""
        with self._changing(exclusive=False):
            return self._blobs.add(data)

    def add_blob_from_file(
        self, path: Path, progress: Progress | None = None, *, link: bool = True
    ) -> tuple[str, int]:
        """Store a file by reflink, hard link (if `link`) or copy; return its digest and size.

        progress gets the bytes hashed so far and in all. A hard link shares the user's file: who later
        edits that file in place changes the blob, which `resolve` then refuses.
        """
        with self._changing(exclusive=False):
            return self._blobs.add_file(path, progress, link=link)

    def take_blob(self, path: Path, digest: str) -> None:
        """Make a whole, verified file of the store's folder a blob; its old name goes."""
        with self._changing(exclusive=False):
            self._blobs.take(path, digest)

    def write_manifest(self, name: ModelName, manifest: Manifest) -> set[str]:
        """Give `name` to a model whose blobs are all stored; return the digests that it meant before."""
        with self._changing(exclusive=False), disk_errors(f"write the manifest of {name}"):
            for layer in (manifest.config, *manifest.layers):
                if not self._blobs.path(layer.digest).is_file():
                    raise StoreError(f"blob {layer.digest} of '{name}' is missing")
            with locked(self.root / ".names.lock", exclusive=True):
                path = self._path(name) or self._manifests.joinpath(*name.parts())
                before = _mentions(path.read_bytes()) if path.exists() else set()
                write_atomic(path, manifest.to_bytes())
        return before

    def check_removable(self, name: str | ModelName) -> ModelName:
        """Return the name of a model that can be removed, damaged or not; raise ModelNotFound or NotSupported."""
        wanted = ModelName.parse(name) if isinstance(name, str) else name
        path = self._locate(wanted)
        if path is None:
            raise self._not_removable(name, wanted)
        return self._name(path)

    def remove(self, name: str | ModelName) -> None:
        """Delete a name and the blobs that no other name uses; raise ModelNotFound."""
        wanted = self.check_removable(name)
        with self._changing(exclusive=True), disk_errors(f"remove '{wanted}'"):
            path = self._path(wanted)
            if path is None:
                raise self._not_removable(name, wanted)
            doomed = _mentions(path.read_bytes())
            path.unlink()
            sync_folder(path.parent)
            for folder in list(path.parents)[:3]:
                with suppress(OSError):
                    folder.rmdir()
            self._prune(doomed, GRACE)

    def copy(self, source: str | ModelName, target: str | ModelName) -> None:
        """Give a model a second name, replacing what had it; its blobs are shared."""
        wanted = ModelName.parse(target) if isinstance(target, str) else target
        with self.adding() as doomed:
            entry = self.find(source)
            if entry.name == wanted and not entry.bundled:
                return
            doomed |= self.adopt(entry)
            doomed |= self.write_manifest(wanted, entry.manifest)

    def adopt(self, entry: Entry) -> set[str]:
        """Bring the bundled model's blobs into the store, for other names to use; return their digests."""
        if not entry.bundled or self.bundled is None:
            return set()
        # Never by hard link: an upgrade of the package may rewrite the file in place.
        model = self.add_blob_from_file(self.bundled.path, link=False)
        return {self.add_blob(self.bundled.config())[0], model[0]}

    def prune(
        self, doomed: Iterable[str] = (), *, wait: bool = True, grace: float = GRACE
    ) -> tuple[str, ...]:
        """Delete unused blobs (`doomed` at once, others after `grace` seconds) and what dead processes left.

        Returns the digests of the deleted blobs. Without `wait`, does nothing while another process adds.
        """
        if not os.path.isdir(self.root):
            return ()
        with self._changing(exclusive=True, wait=wait) as obtained, disk_errors("tidy the store"):
            return self._prune(set(doomed), grace) if obtained else ()

    # Inside

    @contextmanager
    def _changing(self, *, exclusive: bool, wait: bool = True) -> Iterator[bool]:
        thread = threading.get_ident()
        if thread in self._sharing:
            assert not exclusive, "a thread that adds would wait for itself"
            yield True
            return
        with disk_errors("create the model store"):
            self.root.mkdir(parents=True, exist_ok=True)
        with locked(self.root / ".lock", exclusive=exclusive, wait=wait) as obtained:
            if not exclusive:
                self._sharing.add(thread)
            try:
                yield obtained
            finally:
                self._sharing.discard(thread)

    def _prune(self, doomed: set[str], grace: float) -> tuple[str, ...]:
        keep: set[str] = set()
        views: set[str] = set()
        for _, path in self._walk():
            data = path.read_bytes()
            # Even a manifest that does not parse protects what it mentions.
            keep |= _mentions(data)
            with suppress(StoreError):
                views |= {self._views.key(group) for group in _view_groups(Manifest.from_bytes(data))}
        self._views.prune(views)
        for path in self._manifests.glob(f"*/*/*/{TEMPORARY}*"):
            path.unlink(missing_ok=True)
        return tuple(self._blobs.prune(keep, doomed, grace))

    def _walk(self) -> Iterator[tuple[ModelName, Path]]:
        """Yield every name that has a manifest, in no order."""
        with disk_errors("read the model store"):
            paths = list(_files_at_depth(self._manifests, 4))
        for path in paths:
            with suppress(InvalidName):
                yield self._name(path), path

    def _name(self, path: Path) -> ModelName:
        return ModelName(*path.relative_to(self._manifests).parts)

    def _names(self) -> tuple[ModelName, ...]:
        names = [name for name, _ in self._walk()]
        if self.bundled is not None and self.bundled.exists() and self.bundled.name not in names:
            names.append(self.bundled.name)
        return tuple(names)

    def _path(self, name: ModelName) -> Path | None:
        """Return the manifest file of a name, spelled as it was created."""
        exact = self._manifests.joinpath(*name.parts())
        with disk_errors("read the model store"):
            if os.path.isfile(exact):
                return exact
        return next((path for found, path in self._walk() if found == name), None)

    def _locate(self, name: ModelName) -> Path | None:
        """Return the manifest file of a name as a user types it: `user/repo` may be one of Hugging Face."""
        return self._path(name) or next(filter(None, map(self._path, name.elsewhere())), None)

    def _entry(self, name: ModelName, path: Path) -> Entry:
        try:
            with disk_errors(f"read the manifest of '{name}'"):
                data, modified = path.read_bytes(), path.stat().st_mtime
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise self._not_found(name) from error
            raise
        try:
            manifest = Manifest.from_bytes(data)
        except StoreError as error:
            raise StoreError(f"'{name}' is damaged: {error}", hint=f"llm rm {name}") from error
        return Entry(name, manifest, digest_of(data), manifest.size, datetime.fromtimestamp(modified, UTC))

    def _bundled_entry(self) -> Entry | None:
        if self.bundled is None or not self.bundled.exists():
            return None
        manifest = self.bundled.manifest()
        modified = datetime.fromtimestamp(self.bundled.modified(), UTC)
        digest = digest_of(manifest.to_bytes())
        return Entry(self.bundled.name, manifest, digest, manifest.size, modified, bundled=True)

    def _check(self, entry: Entry) -> None:
        """Raise StoreError unless every blob is there and as it was when the model was created."""
        again = f"llm repair {entry.name}" if entry.manifest.source else "create the model again"
        for layer in (entry.manifest.config, *entry.manifest.layers):
            path = self.blob_path(layer.digest)
            with disk_errors(f"read blob {layer.digest}"):
                if not path.is_file():
                    missing = f"'{entry.name}' is damaged: blob {layer.digest} is missing"
                    raise StoreError(missing, hint=again)
                found = path.stat()
                changed = found.st_size != layer.size
                if found.st_nlink > 1 and found.st_mtime > entry.modified.timestamp():
                    changed = changed or hash_file(path)[0] != layer.digest
            if changed:
                message = (
                    f"'{entry.name}' is damaged: blob {layer.digest} was changed after the model was created"
                )
                raise StoreError(message, hint=f"a hard-linked file was edited in place; {again}")

    def _files(self, layers: tuple[Layer, ...]) -> tuple[Path, ...]:
        """Return one path per layer, or one folder for layers that form a folder."""
        if not any(layer.title for layer in layers):
            return tuple(self.blob_path(layer.digest) for layer in layers)
        with self._changing(exclusive=False):
            return (self._views.make([layer for layer in layers if layer.title], self.blob_path),)

    def _not_found(self, name: str | ModelName) -> ModelNotFound:
        near = self.nearest(name)
        hint = f"did you mean {' or '.join(near)}?" if near else "`llm list` shows the models on this machine"
        return ModelNotFound(f"model '{name}' not found", hint=hint)

    def _not_removable(self, name: str | ModelName, wanted: ModelName) -> ModelNotFound | NotSupported:
        if self.bundled is not None and self.bundled.exists() and self.bundled.name == wanted:
            return NotSupported(
                f"model '{name}' comes with mull and cannot be removed",
                hint="a model of your own with this name takes its place: llm create or llm cp",
            )
        return self._not_found(name)


def _view_groups(manifest: Manifest) -> tuple[tuple[Layer, ...], ...]:
    """Return the sets of layers that lie in one view each, some of them empty."""
    return tuple(manifest.of(*kinds) for kinds in ((FILE, MODEL), (ADAPTER,), (DRAFT,), (PROJECTOR,)))


def _mentions(data: bytes) -> set[str]:
    """Return every digest in a manifest's bytes, even of one that does not parse."""
    return {found.decode().replace("-", ":") for found in _MENTION.findall(data)}


def _files_at_depth(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the files exactly `depth` folders down; a folder that vanishes meanwhile counts as empty."""
    try:
        children = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for child in children:
        if depth == 1 and child.is_file():
            yield Path(child.path)
        elif depth > 1 and child.is_dir():
            yield from _files_at_depth(Path(child.path), depth - 1)
