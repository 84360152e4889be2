"""A weight matrix in use: the only place that asks which kernel serves a type on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.cpu import native
from ..kernels.dispatch import find
from .qtensor import QTensor

# Weights packed before their pages are let go, divided by the rows of a panel.
_PACKED_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Packer:
    """Packs matrices for one instruction set, into memory that they share.

    forget: called with what has been packed, so that its pages of the file need not stay.
    """

    isa: native.Isa
    memory: native.Memory
    forget: Callable[[Tensor], None]

    def pack(self, weight: QTensor) -> native.Packed | None:
        """Return a matrix as native kernels read it, types without kernels in bfloat16; None if its columns are odd.

        Raises OutOfMemory, and CorruptFile for a file that was cut short.
        """
        if weight.shape[-1] % native.COLUMNS:
            return None
        if native.packed_bytes(self.isa, weight.dtype.name, *weight.shape) is None:
            name, stored = "bf16", weight.dequantize(torch.bfloat16).contiguous()
        else:
            name, stored = weight.dtype.name, weight.parts[0].contiguous()
        rows, cols = weight.shape
        packed = native.Packed(self.isa, name, (rows, cols), self.memory)
        step = max(1, _PACKED_AT_ONCE // cols) * packed.ROWS
        for first in range(0, rows, step):
            part = stored[first : first + step]
            packed.fill(first, part)
            self.forget(part)
        return packed


class Linear:
    """y = x Wᵀ + b, in one of three ways, by what the weight's type and the caller allow:

    packed  W is kept in its own bits, laid out for the native kernels;
    held    W is dequantized once, to the compute type;
    else    W stays as stored and is dequantized at each use.
    """

    def __init__(
        self,
        weight: QTensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        *,
        hold: bool,
        packer: Packer | None = None,
    ) -> None:
        self.shape = weight.shape
        self.dtype = dtype
        self.packed = packer.pack(weight) if packer is not None else None
        self._stored = weight if not hold and self.packed is None else None
        self._dense = weight.dequantize(dtype) if hold and self.packed is None else None
        self._linear = find("linear", device=weight.device.type)
        self.bias = None if bias is None else bias.to(torch.float32 if self.packed else dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply x [T, in]; returns [T, out], in the compute type or wider."""
        if self.packed is not None:
            y = self.packed.multiply(x)
            return y if self.bias is None else y + self.bias
        weight = self._dense
        if weight is None:
            assert self._stored is not None
            weight = self._stored.dequantize(self.dtype)
        result: Tensor = self._linear(x, weight, self.bias)
        return result


class Embedding:
    """Rows of a table, dequantized as they are asked for."""

    def __init__(self, table: QTensor, forget: Callable[[Tensor], None]) -> None:
        self.table = table
        self._forget = forget

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Return the rows of token_ids [T] as float32 [T, hidden]."""
        return self.table.take(token_ids).dequantize(torch.float32)

    def forget(self) -> None:
        """Let go of the pages of the file that rows were read from."""
        self._forget(self.table.parts[0])
