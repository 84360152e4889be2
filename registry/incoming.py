"""Room in the store for files that are made there before they are added; what killed processes left goes first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from .disk import disk_errors, locked


@contextmanager
def incoming(root: Path) -> Iterator[Path]:
    """Yield an empty folder on the store's disk, so that what is made there is linked and not copied."""
    folder, lock = root / "incoming", root / ".incoming.lock"
    with disk_errors("make room in the model store"):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(lock, exclusive=True, wait=False) as alone:
            for path in folder.iterdir() if alone else ():
                shutil.rmtree(path, ignore_errors=True)
    with locked(lock, exclusive=False), TemporaryDirectory(dir=folder) as own:
        yield Path(own)
