"""What the MODEL of a command or a request means: a name of the store, a file, or a folder."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidName, ModelNotFound
from ..settings import Remotes, Settings, load_remotes, load_settings
from .foreign import find_foreign, foreign_models, names_of
from .manifest import Contents
from .name import ModelName, nearest
from .sources.reference import parse_reference
from .store import Entry, Store


@dataclass(frozen=True, slots=True)
class Target:
    """A model on disk: `path` opens its weights; the rest is there when it has a name in a store.

    owner: the program in whose folder it lies, if it is another's.
    """

    path: Path
    store: Store | None = None
    entry: Entry | None = None
    contents: Contents | None = None
    owner: str | None = None


def find_target(model: str, settings: Settings | None = None, remotes: Remotes | None = None) -> Target:
    """Find a stored model, a file or folder, or a model of another program on this machine.

    A name of the store wins, unless it is written as a path. Raises ModelNotFound, for a name with the nearest ones.
    """
    path = Path(model).expanduser() if model.startswith("~") else Path(model)
    if model.startswith((".", "/", "~")) or ("://" not in model and path.suffix in (".gguf", ".safetensors")):
        with suppress(OSError):  # whatever else is wrong with it, opening it says best
            if not path.exists():
                raise ModelNotFound(f"{path}: no such file or folder")
        return Target(path)
    store = Store((settings or load_settings()).models_dir)
    try:
        entry = _entry(store, model)
    except (ModelNotFound, InvalidName) as error:
        if model and os.path.exists(path):
            return Target(path)
        remotes = remotes or load_remotes()
        found = find_foreign(model, remotes)
        if found is None:
            raise _with_hint(error, model, store, remotes) from error
        return Target(found.path, found.store, found.entry, found.contents(), found.owner)
    return Target(store.model_path(entry.manifest), store, entry, store.read(entry.manifest))


def _entry(store: Store, model: str) -> Entry:
    """Find a name, or what a pull of the same words calls its model."""
    try:
        return store.find(model)
    except (ModelNotFound, InvalidName) as error:
        name = _pulled_as(model)
        if name is None:
            raise
        try:
            return store.find(name)
        except ModelNotFound:
            raise error from None


def _pulled_as(model: str) -> ModelName | None:
    with suppress(InvalidName):
        return parse_reference(model).name
    return None


def _with_hint(
    error: ModelNotFound | InvalidName, model: str, store: Store, remotes: Remotes
) -> ModelNotFound | InvalidName:
    """Suggest names of other programs' models too, and else a pull or a search."""
    if isinstance(error, InvalidName) and _pulled_as(model) is None:
        return error
    near = [*store.nearest(model), *nearest(model, names_of(foreign_models(remotes)))]
    hint = f"did you mean {' or '.join(near[:3])}?" if near else f"llm pull {model}, or llm search {model}"
    return ModelNotFound(f"model '{model}' not found", hint=hint)
