"""A weight matrix in use: the only place that asks which kernel serves a type on a device."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.dispatch import Kernel, exact, find
from .qtensor import QTensor


class Linear:
    """y = x Wᵀ + b, in one of three ways, by what the weight's type and the caller allow:

    native  W stays as stored, and a kernel made for its type multiplies with it;
    held    W is dequantized once, to the compute type;
    else    W stays as stored and is dequantized at each use.
    """

    def __init__(
        self, weight: QTensor, bias: Tensor | None, dtype: torch.dtype, *, hold: bool, native: bool
    ) -> None:
        self.shape = weight.shape
        self.dtype = dtype
        self._native = native_kernel(weight) if native else None
        hold = hold and self._native is None
        self._stored = None if hold else weight
        self._dense = weight.dequantize(dtype) if hold else None
        self._linear = find("linear", device=weight.device.type)
        self._bias = None if bias is None else bias.to(torch.float32 if self._native else dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply x [T, in]; returns [T, out], in the compute type or wider."""
        if self._native is not None:
            assert self._stored is not None
            y: Tensor = self._native(x, self._stored.parts[0], self.shape[1])
            return y if self._bias is None else y + self._bias
        weight = self._dense
        if weight is None:
            assert self._stored is not None
            weight = self._stored.dequantize(self.dtype)
        result: Tensor = self._linear(x, weight, self._bias)
        return result


def native_kernel(weight: QTensor) -> Kernel | None:
    """Return the kernel that multiplies with this matrix as it is stored, if there is one."""
    block = 32
    if weight.shape[-1] % block or not weight.parts[0].is_contiguous():
        return None
    return exact("stored_linear", weight.dtype.name, weight.device.type)


class Embedding:
    """Rows of a table, dequantized as they are asked for."""

    def __init__(self, table: QTensor) -> None:
        self.table = table

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Return the rows of token_ids [T] as float32 [T, hidden]."""
        return self.table.take(token_ids).dequantize(torch.float32)
