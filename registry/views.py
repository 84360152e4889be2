"""Folders of links that give blobs their file names back, for models of several files."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ..errors import StoreError
from .disk import disk_errors, temporary
from .manifest import Layer, digest_of


class Views:
    """One folder per set of named blobs, made when first needed and remade when broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, layers: Sequence[Layer]) -> str:
        """Return the view's folder name: models that share all these files share the view."""
        lines = sorted(f"{layer.digest} {layer.title}\n" for layer in layers if layer.title)
        return digest_of("".join(lines).encode()).removeprefix("sha256:")

    def make(self, layers: Sequence[Layer], blob_path: Callable[[str], Path]) -> Path:
        """Return a folder where each layer's blob has its title as its name."""
        folder = self.folder / self.key(layers)
        with disk_errors("lay out the model's files"):
            folder.mkdir(parents=True, exist_ok=True)
            for layer in layers:
                blob, path = blob_path(layer.digest), folder / str(layer.title)
                if not blob.is_file():
                    raise StoreError(f"blob {layer.digest} is missing", hint="create the model again")
                if not path.exists() or not path.samefile(blob):
                    _link(blob, path)
        return folder

    def prune(self, keep: Collection[str]) -> None:
        """Delete all views but those whose keys are in `keep`."""
        for view in self.folder.iterdir() if self.folder.is_dir() else ():
            if view.name not in keep and view.is_dir():
                for path in view.iterdir():
                    path.unlink(missing_ok=True)
                view.rmdir()


def _link(blob: Path, path: Path) -> None:
    """Put a hard link, or where there are none a symbolic one, in place at once."""
    with temporary(path.parent) as name:
        try:
            os.link(blob, name)
        except OSError:
            name.symlink_to(os.path.relpath(blob, path.parent))
        name.replace(path)
