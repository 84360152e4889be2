"""Models that other programs keep on this machine, found and used where they lie: never written to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..errors import InvalidName, MullError
from ..settings import Remotes
from .files import PART, ModelFiles, find_model_files
from .manifest import MODEL, Contents
from .name import ModelName
from .sources.quants import quant_of
from .sources.reference import parse_reference
from .store import Entry, Store

HUGGING_FACE, OLLAMA, LM_STUDIO = "Hugging Face cache", "Ollama", "LM Studio"
_REPO = re.compile(r"models--(.+?)--(.+)")


@dataclass(frozen=True, slots=True)
class Found:
    """A model of another program: what to call it, whose it is, and what opens it."""

    name: str
    owner: str
    path: Path
    size: int
    modified: datetime
    store: Store | None = None
    entry: Entry | None = None

    def contents(self) -> Contents | None:
        """Return what the model says beside its weights, where its owner keeps such things."""
        return self.store.read(self.entry.manifest) if self.store and self.entry else None


def foreign_models(remotes: Remotes) -> list[Found]:
    """List what other programs keep, the last modified first; what cannot be read is left out."""
    found = [*_hugging_face(remotes.hf_cache), *_ollama(remotes.ollama_models)]
    found += _lm_studio(remotes.lmstudio_models)
    return sorted(found, key=lambda model: (-model.modified.timestamp(), model.name))


def find_foreign(text: str, remotes: Remotes) -> Found | None:
    """Return the model of another program that a user means by `text`; None if there is none."""
    try:
        reference = parse_reference(text)
    except InvalidName:
        return None
    if reference.source == "oci":
        wanted = reference.name
        return next((m for m in _ollama(remotes.ollama_models) if m.entry and m.entry.name == wanted), None)
    if reference.source != "hub":
        return None
    repo, wish = reference.repo.lower(), reference.wanted
    matching = [
        model
        for model in (*_hugging_face(remotes.hf_cache), *_lm_studio(remotes.lmstudio_models))
        if model.name.lower().partition(":")[0] == repo and _is(model, "" if wish == "latest" else wish)
    ]
    # Several quantizations, and none named: the one that came last.
    return max(matching, key=lambda model: model.modified.timestamp(), default=None)


def find_copy(digest: str, size: int, name: str, remotes: Remotes) -> Path | None:
    """Return a file of another program that should have this digest: the caller verifies it."""
    hexadecimal = digest.removeprefix("sha256:")
    candidates: list[Path] = [root / "blobs" / f"sha256-{hexadecimal}" for root in remotes.ollama_models]
    candidates += _glob(remotes.hf_cache, f"models--*--*/blobs/{hexadecimal}")
    for root in remotes.lmstudio_models:
        candidates += _glob(root, f"*/*/{name}") if not set(name) & set("*?[") else []
    for path in candidates:
        with suppress(OSError):
            if path.is_file() and path.stat().st_size == size:
                return path
    return None


def _is(model: Found, wish: str) -> bool:
    """Tell whether a model is the quantization or the file that was wished for."""
    if not wish or wish.rpartition("/")[2] == model.path.name:
        return True
    return model.name.partition(":")[2].upper() in (wish.upper(), f"UD-{wish.upper()}")


def _hugging_face(cache: Path) -> Iterator[Found]:
    for folder in _glob(cache, "models--*"):
        named = _REPO.fullmatch(folder.name)
        if named is None:
            continue
        repo = f"{named[1]}/{named[2]}"
        snapshots = {path.name: path for path in _glob(folder / "snapshots", "*")}
        with suppress(OSError):
            main = (folder / "refs" / "main").read_text("ascii").strip()
            if main in snapshots:
                snapshots = {main: snapshots[main]}
        if snapshots:
            newest = max(snapshots.values(), key=_changed)
            yield from _in_folder(newest, repo, HUGGING_FACE)


def _lm_studio(roots: Iterable[Path]) -> Iterator[Found]:
    for root in roots:
        for folder in _glob(root, "*/*"):
            if folder.is_dir():
                yield from _in_folder(folder, f"{folder.parent.name}/{folder.name}", LM_STUDIO)


def _ollama(roots: Iterable[Path]) -> Iterator[Found]:
    for root in roots:
        store = Store(root, bundled=None)
        entries: tuple[Entry, ...] = ()
        with suppress(MullError):
            entries = store.list()
        for entry in entries:
            weights = entry.manifest.of(MODEL)
            path = store.blob_path(weights[0].digest) if len(weights) == 1 else None
            if path is not None and _whole(path, weights[0].size):
                yield Found(entry.name.short(), OLLAMA, path, entry.size, entry.modified, store, entry)


def _in_folder(folder: Path, repo: str, owner: str) -> Iterator[Found]:
    """Yield each GGUF model of a folder under `repo:QUANT`, or its safetensors under `repo`."""
    seen: set[Path] = set()
    for file in sorted(_glob(folder, "**/*.gguf")):
        part = PART.fullmatch(file.name)
        if (
            "mmproj" in file.name.lower()
            or "imatrix" in file.name.lower()
            or (part and part["number"] != "00001")
        ):
            continue
        quant = quant_of(str(file.relative_to(folder)))
        if (model := _model(file)) is not None and model.path not in seen:
            seen.add(model.path)
            yield _found(f"{repo}:{quant}" if quant else repo, owner, model)
    if not seen and (folder / "config.json").exists():
        model = _model(folder)
        if model is not None:
            yield _found(repo, owner, model)


def _model(path: Path) -> ModelFiles | None:
    """Return a model's files; None where some are missing, as in a download that has not ended."""
    with suppress(MullError, OSError):
        found = find_model_files(path)
        if all(file.exists() for file in found.files):
            return found
    return None


def _found(name: str, owner: str, model: ModelFiles) -> Found:
    size = sum(file.stat().st_size for file in model.files)
    newest = max(_changed(file) for file in model.files)
    return Found(name, owner, model.path, size, datetime.fromtimestamp(newest, UTC))


def _glob(folder: Path, pattern: str) -> list[Path]:
    with suppress(OSError):
        return list(folder.glob(pattern))
    return []


def _changed(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _whole(path: Path, size: int) -> bool:
    with suppress(OSError):
        return path.stat().st_size == size
    return False


def names_of(models: Iterable[Found]) -> list[ModelName]:
    """Return the names that follow our rules, for suggestions."""
    names = []
    for model in models:
        with suppress(InvalidName):
            names.append(ModelName.parse(model.name))
    return names
