"""The folder of blobs: files named by the SHA-256 of their content."""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Collection
from pathlib import Path

from ..errors import StoreError
from .disk import TEMPORARY, Progress, disk_errors, place, sync_folder, temporary, write_atomic
from .manifest import DIGEST, digest_of

_BLOB = re.compile(r"sha256-[0-9a-f]{64}")


class Blobs:
    """Content-addressed files in one folder; a final name always holds a whole, verified blob."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Return where the blob lies, or would lie."""
        if not DIGEST.fullmatch(digest):
            raise StoreError(f"{digest!r} is not a digest")
        return self.folder / digest.replace(":", "-")

    def add(self, data: bytes) -> tuple[str, int]:
        """Store small data; return digest and size."""
        digest = digest_of(data)
        target = self.path(digest)
        with disk_errors("write a blob"):
            if not target.is_file() or target.stat().st_size != len(data):
                write_atomic(target, data)
        return digest, len(data)

    def add_file(self, source: Path, progress: Progress | None, *, link: bool = True) -> tuple[str, int]:
        """Store a file without a second copy where the file system can; return digest and size."""
        with disk_errors(f"add {source}"):
            real = source.resolve(strict=True)
            if not stat.S_ISREG(real.stat().st_mode):
                raise StoreError(f"{source} is not a regular file")
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary(self.folder) as name:
                digest, size = place(real, name, progress, link=link)
                # An older blob of this digest may be a hard link to a file that was edited since;
                # what was hashed just now is right. (Renaming one link onto another of the same
                # file leaves both names; `temporary` then removes the spare one.)
                name.replace(self.path(digest))
            sync_folder(self.folder)
        return digest, size

    def take(self, path: Path, digest: str) -> None:
        """Give a whole, verified file of the store's own disk its final name; a damaged one there gives way."""
        with disk_errors("add a blob"):
            self.folder.mkdir(parents=True, exist_ok=True)
            path.replace(self.path(digest))
            sync_folder(self.folder)

    def prune(self, keep: Collection[str], doomed: Collection[str], grace: float) -> list[str]:
        """Delete what is not in `keep`: the doomed at once, others after `grace` seconds; return digests.

        The caller holds the store for itself, so that whoever wrote a temporary file is dead.
        """
        deleted = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name.startswith(TEMPORARY):
                path.unlink(missing_ok=True)
            elif _BLOB.fullmatch(path.name):
                digest = path.name.replace("-", ":")
                if digest not in keep and (digest in doomed or is_idle(path, grace)):
                    path.unlink(missing_ok=True)
                    deleted.append(digest)
        return deleted


def is_idle(path: Path, grace: float) -> bool:
    """Tell whether a file got its present name, or its last byte, at least `grace` seconds ago."""
    # ctime, because a hard link keeps the mtime of the user's file.
    try:
        changed = path.lstat().st_ctime
    except FileNotFoundError:
        return False
    return time.time() - changed >= grace
