"""A weight matrix in use: the only place that asks which kernel serves a type on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from ..kernels.cpu import native
from ..kernels.dispatch import find
from . import bnb
from .formats.bnb import NATIVE, native_blocks
from .qtensor import QTensor

# Bytes that are packed together: threads meet once for all of them, and hardly wait for Python's other threads.
_TOGETHER = 16 << 20


class Packer:
    """Packs matrices for one instruction set, into memory that they share; what was asked for is done by `finish`.

    forget: called with what has been packed, so that its pages of the file need not stay.
    """

    def __init__(self, isa: native.Isa, memory: native.Memory, forget: Callable[[Tensor], None]) -> None:
        self.isa = isa
        self._memory = memory
        self._forget = forget
        # Rows as they lie in the file, as they are packed, and where.
        self._waiting: list[tuple[Tensor, Tensor, tuple[int, ...]]] = []
        self._nbytes = 0

    def pack(self, weight: QTensor) -> native.Packed | None:
        """Return a matrix as native kernels read it, types without kernels in bfloat16; None if its columns are odd.

        Raises OutOfMemory, and CorruptFile for a file that was cut short.
        """
        if weight.shape[-1] % native.COLUMNS:
            return None
        rows, cols = weight.shape
        own = len(weight.parts) == 1
        name = NATIVE.get(weight.dtype.name, weight.dtype.name)
        if native.packed_bytes(self.isa, name, rows, cols) is None:
            name, own, stored = "bf16", True, weight.dequantize(torch.bfloat16).contiguous()
        else:
            stored = weight.parts[0].contiguous()
        packed = native.Packed(self.isa, name, (rows, cols), self._memory)
        row_bytes = -(-stored.nbytes // rows)
        step = max(1, _TOGETHER // row_bytes // packed.ROWS) * packed.ROWS
        for first in range(0, rows, step):
            last = min(rows, first + step)
            there = stored[first:last]
            part = there if own else _native_part(weight, first, last)
            self._waiting.append((there, part, packed.part(first, part)))
            self._nbytes += there.nbytes
            if self._nbytes >= _TOGETHER:
                self.finish()
        return packed

    def finish(self) -> None:
        """Pack what waits; raises CorruptFile for a file that was cut short."""
        native.pack(self.isa, [numbers for *_, numbers in self._waiting], self._memory)
        for rows, *_ in self._waiting:
            self._forget(rows)
        self._waiting.clear()
        self._nbytes = 0


def _native_part(weight: QTensor, first: int, last: int) -> Tensor:
    """Return some rows of a matrix of bitsandbytes' in blocks that native kernels know."""
    return native_blocks(weight.dtype.name, weight.rows(first, last).parts, weight.shape[1])


def packed_types(isa: native.Isa) -> Mapping[str, float]:
    """Return the types that native kernels multiply with, and the bytes that a packed weight takes."""
    types = native.packed_types(isa)
    return types | {name: types[kind] for name, kind in NATIVE.items() if kind in types}


def lent_types(names: Iterable[str], device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Return those of the types that bitsandbytes multiplies with, and the bytes that a weight takes at most."""
    return {name: bnb.NBYTES[name] for name in names if name in bnb.TYPES and bnb.serves(name, device, dtype)}


class Linear:
    """y = x Wᵀ + b, in one of four ways, by what the weight's type, its device and the caller allow:

    packed  W is kept in its own bits, laid out for the native kernels;
    lent    W is one of bitsandbytes' types, and multiplied by its kernels;
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
        lent = self.packed is None and weight.dtype.name in bnb.TYPES and bnb.has_kernel(weight, dtype)
        self._lent = bnb.Multiplier(weight, dtype) if lent else None
        ours = self.packed is None and self._lent is None
        self._stored = weight if ours and not hold else None
        self._dense = weight.dequantize(dtype) if ours and hold else None
        self._linear = find("linear", device=weight.device.type)
        self.bias = None if bias is None else bias.to(torch.float32 if self.packed else dtype)
        # Told of what is multiplied; a native program does not come by here.
        self.observer: Callable[[Tensor], None] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply x [T, in]; returns [T, out], in the compute type or wider."""
        if self.observer is not None:
            self.observer(x)
        if self.packed is not None:
            y = self.packed.multiply(x)
            return y if self.bias is None else y + self.bias
        if self._lent is not None:
            y = self._lent(x.to(self.dtype))
            return y if self.bias is None else y + self.bias
        weight = self._dense
        if weight is None:
            assert self._stored is not None
            weight = self._stored.dequantize(self.dtype)
        result: Tensor = self._linear(x, weight, self.bias)
        return result


class Embedding:
    """Rows of a table, dequantized as they are asked for; is_mapped: it lies in a mapped file."""

    def __init__(self, table: QTensor, *, is_mapped: bool) -> None:
        self.table = table
        self.is_mapped = is_mapped

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Return the rows of token_ids [T] as float32 [T, hidden]."""
        return self.table.take(token_ids).dequantize(torch.float32)
