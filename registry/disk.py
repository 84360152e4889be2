"""Disk operations that survive a crash: atomic writes, locks between processes, links instead of copies."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DiskFull, StoreError

TEMPORARY = ".tmp-"
_CHUNK = 4 << 20
# Linux's FICLONE: _IOW(0x94, 9, int); the fcntl module names it from Python 3.12 on.
_FICLONE = getattr(fcntl, "FICLONE", 0x40049409)

Progress = Callable[[int, int], None]


@contextmanager
def disk_errors(action: str) -> Iterator[None]:
    """Turn the system's errors into one line: DiskFull, or StoreError `cannot <action>: <reason>`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"cannot {action}: no space left on the disk",
                hint="free some space, or move the store (MULL_MODELS)",
            ) from error
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        raise StoreError(f"cannot {action}: {(error.strerror or str(error)).lower()}{where}") from error


@contextmanager
def locked(path: Path, *, exclusive: bool, wait: bool = True) -> Iterator[bool]:
    """Hold a lock on the file `path` against other processes and threads; yield whether it was obtained."""
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    with disk_errors("lock the model store"):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        obtained = True
        with disk_errors("lock the model store"):
            try:
                fcntl.flock(fd, mode if wait else mode | fcntl.LOCK_NB)
            except BlockingIOError:
                obtained = False
        yield obtained
    finally:
        # Unlocked by name: a forked child may still hold a copy of the descriptor.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


@contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """Yield an unused name in `folder` and make sure that nothing is left there, whatever happens."""
    path = folder / f"{TEMPORARY}{os.getpid()}-{os.urandom(8).hex()}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `path` so that a reader, or a crash, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary(path.parent) as name:
        with open(name, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        name.replace(path)
    sync_folder(path.parent)


def hash_file(path: Path, progress: Progress | None = None) -> tuple[str, int]:
    """Return a file's digest and its size in bytes."""
    return _hash(path, None, progress)


def place(source: Path, target: Path, progress: Progress | None, *, link: bool) -> tuple[str, int]:
    """Put `source`'s bytes at the unused name `target` and return their digest and size.

    A reflink where the file system can, else a hard link if `link`, else a copy.
    """
    found = source.stat()
    if _reflink(source, target):
        digest, size = _hash(target, None, progress)
    elif link and _hard_link(source, target):
        return _hash(target, None, progress)
    else:
        size, free = found.st_size, free_bytes(target.parent)
        if free < size:
            raise DiskFull(
                f"cannot copy {source}: it has {size} bytes, and only {free} are free",
                hint="free some space, or move the store (MULL_MODELS) to the disk of the file",
            )
        digest, size = _hash(source, target, progress)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
    return digest, size


def free_bytes(folder: Path) -> int:
    """Return how many bytes an ordinary user may still write in `folder`."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def _hash(source: Path, copy: Path | None, progress: Progress | None) -> tuple[str, int]:
    """Hash `source`; write what was read to the new file `copy`, so that the digest is the copy's."""
    hasher = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    done = 0
    with open(source, "rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size
        out = None if copy is None else open(copy, "xb", buffering=0)  # noqa: SIM115
        try:
            while count := file.readinto(buffer):
                hasher.update(view[:count])
                written = 0
                while out is not None and written < count:
                    written += out.write(view[written:count])
                done += count
                if progress is not None:
                    progress(done, max(total, done))
            if out is not None:
                os.fsync(out.fileno())
        finally:
            if out is not None:
                out.close()
    return "sha256:" + hasher.hexdigest(), done


def _reflink(source: Path, target: Path) -> bool:
    """Share the extents of `source` copy-on-write, where the file system can."""
    if not sys.platform.startswith("linux"):
        return False
    with open(source, "rb") as reader, open(target, "xb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            shared = False
        else:
            shared = True
            os.fsync(writer.fileno())
    if not shared:
        target.unlink()
    return shared


def _hard_link(source: Path, target: Path) -> bool:
    """Give `source` a second name; False across file systems and where the system forbids it."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.EEXIST):
            raise
        return False
    return True
