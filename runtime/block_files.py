"""Blocks of the KV cache as files: named by all the tokens up to their end, limited in size, safe from crashes."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

_CHECK = hashlib.sha256().digest_size
_FIRST_PART = re.compile(r"(.+-)00001(-of-\d{5}\.gguf)")
_OURS = re.compile(r"(?:\.tmp-[\d-]+)?[0-9a-f]{64}")


def stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what tells a model's files from others, without reading them: names, sizes, times of change.

    path: a folder, a file, or the first part of a file that is split.
    """
    files: Iterable[Path] = [path]
    if path.is_dir():
        files = path.iterdir()
    elif (first := _FIRST_PART.fullmatch(path.name)) is not None:
        files = path.parent.glob(f"{glob.escape(first[1])}?????{first[2]}")
    found = [(file.name, file.stat()) for file in sorted(files) if file.is_file()]
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in found)


class BlockFiles:
    """One folder of blocks, for any number of models and processes; the longest unread go first when it is full.

    identity: what the bytes of a block depend on besides its tokens: the model, the types, the layout.
    """

    def __init__(self, folder: Path, identity: str, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._root = hashlib.sha256(identity.encode()).digest()

    def names(self, tokens: Sequence[int], block_size: int) -> Iterator[str]:
        """Yield the names of the files of each whole block of `tokens`, first to last."""
        chain = self._root
        for start in range(0, len(tokens) - block_size + 1, block_size):
            text = ",".join(map(str, tokens[start : start + block_size]))
            chain = hashlib.sha256(chain + text.encode()).digest()
            yield chain.hex()

    def has(self, name: str, size: int) -> bool:
        """Tell whether there is a file for a block of `size` bytes; one that a crash cut short is none."""
        with suppress(OSError):
            return (self.folder / name).stat().st_size == _CHECK + size
        return False

    def read(self, name: str, size: int) -> bytes | None:
        """Return a block of `size` bytes; None if it is not there. One that is damaged goes."""
        path = self.folder / name
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        data = stored[_CHECK:]
        if len(data) != size or hashlib.sha256(data).digest() != stored[:_CHECK]:
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return data

    def write(self, name: str, data: bytes) -> None:
        """Keep a block; raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / f".tmp-{os.getpid()}-{threading.get_native_id()}-{name}"
        try:
            # What was said is in there: for this user alone.
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(hashlib.sha256(data).digest())
                file.write(data)
            path.replace(self.folder / name)
        finally:
            path.unlink(missing_ok=True)

    def prune(self) -> int:
        """Delete blocks, those read longest ago first, until the rest keeps to the limit; return how many went."""
        found: list[tuple[float, int, str]] = []
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if _OURS.fullmatch(entry.name) is None:
                    continue
                with suppress(OSError):
                    status = entry.stat()
                    found.append((status.st_mtime, status.st_size, entry.path))
        excess = sum(size for _, size, _ in found) - self.limit
        gone = 0
        for _, size, path in sorted(found):
            if excess <= 0:
                break
            with suppress(OSError):
                os.unlink(path)
                excess -= size
                gone += 1
        return gone
