"""What the MODEL of a command or a request means: a name of the store, a file, or a folder."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidName, ModelNotFound
from ..settings import Settings, load_settings
from .manifest import Contents
from .store import Entry, Store


@dataclass(frozen=True, slots=True)
class Target:
    """A model on disk: `path` opens its weights; the rest is there when it has a name in the store."""

    path: Path
    store: Store | None = None
    entry: Entry | None = None
    contents: Contents | None = None


def find_target(model: str, settings: Settings | None = None) -> Target:
    """Find a stored model or a file or folder; a name of the store wins, unless it is written as a path.

    Raises ModelNotFound, for a name with the nearest ones.
    """
    path = Path(model).expanduser() if model.startswith("~") else Path(model)
    if model.startswith((".", "/", "~")) or path.suffix in (".gguf", ".safetensors"):
        with suppress(OSError):  # whatever else is wrong with it, opening it says best
            if not path.exists():
                raise ModelNotFound(f"{path}: no such file or folder")
        return Target(path)
    store = Store((settings or load_settings()).models_dir)
    try:
        entry = store.find(model)
    except (ModelNotFound, InvalidName):
        if model and os.path.exists(path):
            return Target(path)
        raise
    return Target(store.model_path(entry.manifest), store, entry, store.read(entry.manifest))
