"""A weight matrix in use: the only place that asks which kernel serves a type on a device."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.dispatch import find
from .qtensor import QTensor


class Linear:
    """y = x Wᵀ + b, with W held in the compute type, or kept as stored and dequantized at each use."""

    def __init__(self, weight: QTensor, bias: Tensor | None, dtype: torch.dtype, *, hold: bool) -> None:
        self.shape = weight.shape
        self.dtype = dtype
        self.bias = None if bias is None else bias.to(dtype)
        self._stored = None if hold else weight
        self._dense = weight.dequantize(dtype) if hold else None
        self._kernel = find("linear", device=weight.device.type)

    @property
    def weight(self) -> Tensor:
        """The matrix [out, in] in the compute type."""
        if self._dense is not None:
            return self._dense
        assert self._stored is not None
        return self._stored.dequantize(self.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply x [T, in]; returns [T, out] in the compute type."""
        result: Tensor = self._kernel(x, self.weight, self.bias)
        return result


class Embedding:
    """Rows of a table, dequantized as they are asked for."""

    def __init__(self, table: QTensor) -> None:
        self.table = table

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Return the rows of token_ids [T] as float32 [T, hidden]."""
        return self.table.take(token_ids).dequantize(torch.float32)
