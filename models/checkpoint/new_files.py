"""Files that are written under temporary names and get their own all together, or never.

    .mull-<random>.partial     while being written, locked by the process that writes it
    <name>                     once every file of the set is whole and on the disk

A killed process loses its locks, so whoever writes next into the same folder knows its leftovers.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ...errors import CheckpointError, DiskFull

_PREFIX, _SUFFIX = ".mull-", ".partial"
# Written pages start on their way to the disk this early, so that the last sync is short.
_FLUSH_EVERY = 64 << 20

Buffer = bytes | bytearray | memoryview


@dataclass(slots=True)
class NewFile:
    """One file under way; `size` counts what was written."""

    target: Path
    path: Path
    fd: int
    size: int = 0
    flushed: int = 0
    named: bool = False

    def write(self, data: Buffer) -> None:
        """Append bytes."""
        view = memoryview(data)
        with write_errors(self.target):
            while view:
                written = os.write(self.fd, view)
                view = view[written:]
                self.size += written
            if self.size - self.flushed >= _FLUSH_EVERY:
                self._flush()

    def _flush(self) -> None:
        """Start writing to the disk without waiting for it; dirty pages are not dropped by this."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.fd, self.flushed, self.size - self.flushed, os.POSIX_FADV_DONTNEED)
        self.flushed = self.size

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        with write_errors(self.target):
            os.fsync(self.fd)


class NewFiles:
    """A set of files for one folder; leaving the `with` without `publish` removes them all."""

    def __init__(self, targets: Sequence[Path], nbytes: int) -> None:
        self._named = list(targets)
        # A link stays a link: what it points to is replaced.
        self._targets = [Path(os.path.realpath(target)) for target in targets]
        self._nbytes = nbytes
        self._files: list[NewFile] = []
        self._whole = False

    def __enter__(self) -> Self:
        for target in self._targets:
            _check_target(target)
        for folder in dict.fromkeys(target.parent for target in self._targets):
            remove_leftovers(folder)
        _check_space(self._targets[0], self._nbytes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            with suppress(OSError):
                os.close(file.fd)
        if not self._whole:
            for file in self._files:
                (file.target if file.named else file.path).unlink(missing_ok=True)

    def create(self) -> NewFile:
        """Begin the next file of the set."""
        target = self._targets[len(self._files)]
        with write_errors(target):
            while True:
                path = target.parent / f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}"
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                file = NewFile(target, path, fd)
                self._files.append(file)
                with suppress(OSError):  # some network file systems have no locks
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:
                    return file
                # Another process took it for a leftover before it was locked.
                self._files.pop()
                os.close(fd)

    def publish(self) -> list[Path]:
        """Give the files their names, the first one last: a set can only be opened when it is whole."""
        assert len(self._files) == len(self._targets)
        for file in self._files:
            file.sync()
        first = self._files[0]
        with write_errors(first.target):
            if len(self._files) > 1:
                # An older set of these names must not be opened with parts of the new one.
                first.target.unlink(missing_ok=True)
            for file in reversed(self._files):
                os.replace(file.path, file.target)
                file.named = True
            self._whole = True
            for folder in dict.fromkeys(target.parent for target in self._targets):
                _sync_folder(folder)
        return self._named


@contextmanager
def write_errors(target: Path) -> Iterator[None]:
    """Turn the system's errors into one line: DiskFull, or CheckpointError `cannot be written: <reason>`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"{target}: no space left on the disk; nothing was left behind",
                hint="free some space, or write to another disk",
            ) from error
        reason = (error.strerror or str(error)).lower()
        raise CheckpointError(f"{target}: cannot be written: {reason}") from error


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what killed processes left in a folder, and return it; files being written stay."""
    removed = []
    with suppress(OSError):
        for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}")):
            if _is_abandoned(path):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def _is_abandoned(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _check_target(target: Path) -> None:
    if not target.parent.is_dir():
        raise CheckpointError(f"{target.parent}: no such folder", hint=f"mkdir -p {target.parent}")
    if target.is_dir():
        raise CheckpointError(f"{target}: a folder, not a file", hint=f"for example {target / 'model.gguf'}")
    if target.exists() and not target.is_file():
        # A rename would put a file in the place of a device.
        raise CheckpointError(f"{target}: not a file that can be replaced")


def _check_space(target: Path, nbytes: int) -> None:
    with write_errors(target):
        available = free_bytes(target.parent)
    if available < nbytes:
        raise DiskFull(
            f"{target}: {nbytes:,} bytes are to be written, and only {available:,} are free there",
            hint="free some space, write to another disk, or choose a smaller type",
        )


def free_bytes(folder: Path) -> int:
    """Return how many bytes an ordinary user may still write in a folder."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
