"""A blob on its way: the bytes so far, and beside them how far each of its chunks has come.

    <key>          the data, at its full length from the start, with holes
    <key>.ranges   counters of the bytes that are there, one per chunk, mapped into memory
    <key>.lock     held by the process that downloads
    <key>.done     the data, whole and verified

A counter is raised right after its bytes were written, by a store into shared memory: whatever kills the
process, both are in the page cache. What a crash of the whole machine loses, the digest finds out.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from .disk import disk_errors, locked, temporary

CHUNK = 32 << 20
_HEAD = struct.Struct("<8sQQ32s8x")
_MAGIC = b"MULLPRT1"


def pulling(root: Path, *, alone: bool = False) -> AbstractContextManager[bool]:
    """Keep what has come in place while a model is pulled, its finished parts too; or try to be without any pull."""
    return locked(root / ".pulling", exclusive=alone, wait=not alone)


class Partial:
    """The state of one download on disk; `size` and `validator` must be as when it began, or it begins anew."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / key
        self.ranges = folder / f"{key}.ranges"
        self.done = folder / f"{key}.done"
        self._lock = folder / f"{key}.lock"
        self.size = 0
        self.chunk = CHUNK
        self.resumed = 0
        self._fd = -1
        self._map: mmap.mmap | None = None
        self._counts: memoryview = memoryview(b"")

    # Who downloads

    @contextmanager
    def owned(self) -> Iterator[bool]:
        """Try to be the one who downloads; yield whether nobody else is. The lock's file goes with its owner."""
        with disk_errors("make room for a download"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            # Its last owner may have deleted the file between our opening and locking it.
            if not _same(fd, self._lock):
                yield False
                return
            try:
                yield True
            finally:
                self._lock.unlink(missing_ok=True)
                fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)

    def busy(self) -> bool:
        """Tell whether a process downloads, without writing anything."""
        with suppress(OSError):
            fd = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(fd)
        return False

    # The data

    def open(self, size: int, validator: str) -> None:
        """Go on with what is there, or begin; raises DiskFull or StoreError."""
        self.size = size
        tag = hashlib.sha256(validator.encode()).digest()
        with disk_errors("write a download"):
            if not self._fits(tag):
                self._begin(tag)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            fd = os.open(self.ranges, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._map = mmap.mmap(fd, 0)
            finally:
                os.close(fd)
        self.chunk = _HEAD.unpack_from(self._map)[2]
        self._counts = memoryview(self._map).cast("Q")[_HEAD.size // 8 :]
        self.resumed = self.completed

    def close(self) -> None:
        """Let go of the files; they stay."""
        if self._map is not None:
            self._counts.release()
            self._map.close()
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def completed(self) -> int:
        """Bytes that are there."""
        return sum(self._counts)

    def missing(self) -> list[int]:
        """Return the numbers of the chunks that are not whole."""
        return [number for number in range(len(self._counts)) if self.left(number)]

    def start(self, number: int) -> int:
        """Return where the next byte of a chunk belongs."""
        return number * self.chunk + int(self._counts[number])

    def left(self, number: int) -> int:
        """Return how many bytes of a chunk are not there."""
        return min(self.chunk, self.size - number * self.chunk) - int(self._counts[number])

    def write(self, number: int, data: bytes) -> None:
        """Add bytes to a chunk, then count them."""
        offset, view = self.start(number), memoryview(data)
        with disk_errors("write a download"):
            while view:
                written = os.pwrite(self._fd, view, offset)
                offset, view = offset + written, view[written:]
        self._counts[number] += len(data)

    def forget(self) -> None:
        """Count nothing as there: what was there is wrong."""
        for number in range(len(self._counts)):
            self._counts[number] = 0
        self.resumed = 0

    def finish(self) -> Path:
        """Give the whole, verified data its name; return it."""
        with disk_errors("write a download"):
            os.fsync(self._fd)
            self.close()
            os.replace(self.path, self.done)
            self.ranges.unlink(missing_ok=True)
        return self.done

    def discard(self) -> None:
        """Delete the data."""
        self.close()
        for path in (self.path, self.ranges, self.done):
            path.unlink(missing_ok=True)

    def peek(self) -> int:
        """Return how many bytes another process has got so far; 0 where that cannot be seen."""
        with suppress(OSError):
            data = self.ranges.read_bytes()
            # A crash of the machine may have cut it short.
            if data[:8] == _MAGIC and len(data) >= _HEAD.size and not len(data) % 8:
                return sum(memoryview(data[_HEAD.size :]).cast("Q"))
        return 0

    def _fits(self, tag: bytes) -> bool:
        try:
            head = self.ranges.read_bytes()
            if self.path.stat().st_size != self.size or len(head) < _HEAD.size:
                return False
        except FileNotFoundError:
            return False
        magic, size, chunk, known = _HEAD.unpack_from(head)
        if (magic, size, known) != (_MAGIC, self.size, tag) or not chunk:
            return False
        count = -(-size // chunk)
        if len(head) != _HEAD.size + 8 * count:
            return False
        counts = memoryview(head[_HEAD.size :]).cast("Q")
        return all(counts[i] <= min(chunk, size - i * chunk) for i in range(count))

    def _begin(self, tag: bytes) -> None:
        self.ranges.unlink(missing_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            os.ftruncate(fd, self.size)
        finally:
            os.close(fd)
        count = -(-self.size // self.chunk)
        with temporary(self.path.parent) as name:
            name.write_bytes(_HEAD.pack(_MAGIC, self.size, self.chunk, tag) + bytes(8 * count))
            name.replace(self.ranges)


def _same(fd: int, path: Path) -> bool:
    """Tell whether a descriptor and a path mean one file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (mine.st_dev, mine.st_ino) == (found.st_dev, found.st_ino)
