"""A tensor in any weight type, and its way back to floating point."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from . import formats as formats  # registers the dequantizers
from .dtype import DType, find_dequantizer, find_layout
from .formats.floats import TORCH_DTYPES

# Weights unpacked at a time: on CPUs the temporaries stay in the cache, on GPUs launches dominate.
_CPU_CHUNK = 1 << 19
_GPU_CHUNK = 1 << 23


@dataclass(frozen=True, slots=True, eq=False)
class QTensor:
    """Weights as stored. Plain types: one tensor shaped `shape`; block types: uint8 [rows, bytes per row].

    bitsandbytes' types: several tensors, the first of them codes [rows, bytes per row] (quant/formats/bnb.py).
    """

    parts: tuple[Tensor, ...]
    dtype: DType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that the parts occupy."""
        return sum(part.numel() * part.element_size() for part in self.parts)

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return self.parts[0].device

    def to(self, device: str | torch.device) -> QTensor:
        """Move to a device; on the same one, return the same memory."""
        return QTensor(tuple(part.to(device) for part in self.parts), self.dtype, self.shape)

    def rows(self, start: int, stop: int) -> QTensor:
        """Return indices start..stop of the first dimension, without copying."""
        size = self.shape[0] if self.shape else 0
        if not 0 <= start <= stop <= size:
            raise ShapeMismatch(f"rows {start} to {stop} of a tensor with {size}")
        shape = (stop - start, *self.shape[1:])
        if len(self.parts) > 1:
            each = math.prod(self.shape[1:-1])
            layout, cols = find_layout(self.dtype), self.shape[-1]
            return QTensor(layout.rows(self.parts, cols, start * each, stop * each), self.dtype, shape)
        if not self.dtype.is_block:
            return QTensor((self.parts[0][start:stop],), self.dtype, shape)
        if len(self.shape) == 1:
            first, last = self.dtype.shape_bytes((start,)), self.dtype.shape_bytes((stop,))
            return QTensor((self.parts[0][:, first:last],), self.dtype, shape)
        each = math.prod(self.shape[1:-1])
        return QTensor((self.parts[0][start * each : stop * each],), self.dtype, shape)

    def at(self, index: int) -> QTensor:
        """Return one index of the first dimension, without that dimension and without copying."""
        one = self.rows(index, index + 1)
        plain = len(self.parts) == 1 and not self.dtype.is_block
        return QTensor((one.parts[0][0],) if plain else one.parts, self.dtype, self.shape[1:])

    def take(self, indices: Tensor) -> QTensor:
        """Gather rows of a matrix, still packed (a copy).  # indices: int [n] -> [n, cols]"""
        if len(self.shape) != 2:
            raise ShapeMismatch(f"rows can be gathered from a matrix, not from shape {self.shape}")
        shape = (indices.numel(), self.shape[1])
        return QTensor((self.parts[0].index_select(0, indices.to(self.device)),), self.dtype, shape)

    def dequantize(self, torch_dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the weights, shaped `shape`, in a floating type.

        A plain tensor that already has this type is returned as it is, memory shared.
        """
        if len(self.parts) > 1:
            layout = find_layout(self.dtype)
            return layout.dequantize(self.parts, self.shape[-1], torch_dtype).view(self.shape)
        if not self.dtype.is_block:
            return self.parts[0].to(torch_dtype).reshape(self.shape)
        return dequantize(self.parts[0], self.dtype, torch_dtype).view(self.shape)


def from_bytes(data: Tensor, kind: DType, shape: tuple[int, ...]) -> QTensor:
    """Wrap the stored bytes of a tensor, sharing memory.  # data: uint8 [nbytes], contiguous"""
    if kind.shape_bytes(shape) != data.numel():
        raise ShapeMismatch(f"{data.numel()} bytes cannot be shape {shape} of type {kind.name}")
    if kind.is_block:
        num_rows = math.prod(shape[:-1])
        return QTensor((data.view(num_rows, kind.shape_bytes(shape[-1:])),), kind, shape)
    if data.data_ptr() % kind.nbytes:
        data = data.clone()  # a file may put elements at any byte; the processor wants them aligned
    return QTensor((data.view(TORCH_DTYPES[kind.name]).view(shape),), kind, shape)


def dequantize(data: Tensor, kind: DType, torch_dtype: torch.dtype) -> Tensor:
    """Unpack rows of blocks, a bounded chunk at a time.  # uint8 [rows, row_bytes] -> [rows, cols]"""
    unpack = find_dequantizer(kind)
    num_rows, row_bytes = data.shape
    per_row = row_bytes // kind.nbytes
    blocks = data.reshape(-1, kind.nbytes)
    out = torch.empty((num_rows * per_row, kind.block), dtype=torch_dtype, device=data.device)
    step = max(1, (_CPU_CHUNK if data.device.type == "cpu" else _GPU_CHUNK) // kind.block)
    for start in range(0, blocks.shape[0], step):
        stop = start + step
        out[start:stop] = unpack(blocks[start:stop])
    return out.view(num_rows, per_row * kind.block)
