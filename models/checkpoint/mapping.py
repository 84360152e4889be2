"""Files mapped into memory, and tensors over the mapping."""

from __future__ import annotations

import mmap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import CheckpointError, ModelNotFound

if TYPE_CHECKING:
    from torch import Tensor

    from ...quant.dtype import DType
    from ...quant.qtensor import QTensor


class MappedFile:
    """A file mapped copy-on-write: pages come in as they are read, and writes never reach the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.size = file.seek(0, 2)
                self._content: mmap.mmap | bytes | None = _map(file.fileno()) if self.size else b""
        except FileNotFoundError:
            raise ModelNotFound(f"{path}: no such file") from None
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None

    def content(self) -> mmap.mmap | bytes:
        """Return all bytes, to be sliced; raise CheckpointError once the file is closed."""
        if self._content is None:
            raise CheckpointError(f"{self.path}: has been closed")
        return self._content

    def tensor(self, start: int, kind: DType, shape: tuple[int, ...], device: str) -> QTensor:
        """Return the tensor whose bytes begin at `start`; its memory keeps the mapping alive."""
        from ...quant.qtensor import from_bytes

        return from_bytes(self._bytes(start, kind.shape_bytes(shape)), kind, shape).to(device)

    def _bytes(self, start: int, count: int) -> Tensor:
        import torch

        if not count:
            return torch.empty(0, dtype=torch.uint8)
        with warnings.catch_warnings():
            # Only where the copy-on-write mapping was refused; nothing of ours writes to weights.
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            return torch.frombuffer(self.content(), dtype=torch.uint8, count=count, offset=start)

    def span(self, tensor: Tensor) -> tuple[int, int] | None:
        """Return the first byte of a tensor in this mapped file and the one after its last; None if it is elsewhere."""
        if not isinstance(self._content, mmap.mmap):
            return None
        start = tensor.data_ptr() - self._bytes(0, 1).data_ptr()
        end = start + tensor.numel() * tensor.element_size()
        return (start, end) if start >= 0 and end <= self.size else None

    def forget(self, tensor: Tensor) -> None:
        """Let go of the whole pages that a tensor covers, if it lies in this file."""
        if span := self.span(tensor):
            self.forget_pages(*span)

    def forget_pages(self, start: int, end: int) -> None:
        """Let go of the whole pages between two bytes; nothing of ours writes to them, and they come back when read."""
        first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if isinstance(self._content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") and first < last:
            self._content.madvise(mmap.MADV_DONTNEED, first, last - first)

    def close(self) -> None:
        """Let go of the mapping; the last tensor over it unmaps the file.

        Never unmap here: torch keeps the mapping alive but holds no buffer on it, so closing it would
        pull the memory from under the tensors.
        """
        self._content = None


def _map(descriptor: int) -> mmap.mmap:
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    except OSError:
        # Systems that count private pages against their memory refuse files larger than it.
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
