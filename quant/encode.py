"""Weights in fewer bits: any readable tensor to any type that has a quantizer, a bounded number of rows at a time."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from ..errors import CorruptFile, NotSupported, ShapeMismatch
from . import formats as formats  # registers the quantizers
from .dtype import DType, find_quantizer
from .formats.floats import TORCH_DTYPES
from .qtensor import QTensor

FLOATS: Final = ("f32", "f16", "bf16")

# Weights at a time: what the temporaries of torch may take.
_CHUNK: Final = 1 << 20


def encode(
    weight: QTensor, kind: DType, importance: Tensor | None = None, *, rows: slice | None = None
) -> QTensor:
    """Return the weights as `kind`, rounded to nearest even if that is a float, else by its quantizer.

    importance: float32 [cols], how much an error in a column matters; [n, cols] for a stack of n matrices.
    rows: only these, of all rows one after another; the result is then [rows, cols], else shaped as the weight.
    Raises CorruptFile for weights that are not finite, ShapeMismatch, NotSupported for a type without quantizer.
    """
    if not weight.shape:
        raise ShapeMismatch("a single number has no rows to quantize")
    cols = weight.shape[-1]
    stored = weight.parts[0] if weight.dtype.is_block else weight.parts[0].reshape(-1, cols)
    first, last, step = (rows or slice(None)).indices(len(stored))
    if step != 1:
        raise ShapeMismatch(f"rows in steps of {step} cannot be quantized")
    last = max(first, last)
    shape = weight.shape if rows is None else (last - first, cols)
    out = _empty(kind, last - first, cols, weight.device)
    table = None if importance is None else _importance(importance, weight.shape)
    each = len(stored) if table is None else len(stored) // len(table)  # rows that share an importance
    at = first
    while at < last:
        stop = min(last, at + max(1, _CHUNK // max(1, cols)), (at // each + 1) * each)
        part = QTensor((stored[at:stop],), weight.dtype, (stop - at, cols))
        out[at - first : stop - first] = _encode(part, kind, None if table is None else table[at // each])
        at = stop
    return QTensor((out if kind.is_block else out.view(shape),), kind, shape)


def _empty(kind: DType, rows: int, cols: int, device: torch.device) -> Tensor:
    """Make the memory of the result: uint8 [rows, bytes per row], or floats [rows, cols]."""
    if kind.name in FLOATS:
        return torch.empty((rows, cols), dtype=TORCH_DTYPES[kind.name], device=device)
    if not kind.is_block:
        raise NotSupported(f"weights cannot be made {kind.name}", hint="choose a float or a quantized type")
    find_quantizer(kind)
    return torch.empty((rows, kind.shape_bytes((cols,))), dtype=torch.uint8, device=device)


def _importance(importance: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Check an importance and return it as float32 [matrices, cols]."""
    matrices = shape[0] if len(shape) > 2 else 1
    table = (
        importance.float().reshape(-1, importance.shape[-1]) if importance.dim() else importance.view(1, 1)
    )
    if table.shape[-1] != shape[-1] or len(table) not in (1, matrices):
        raise ShapeMismatch(f"an importance of shape {list(importance.shape)} for weights of {list(shape)}")
    if not bool(torch.isfinite(table).all()) or bool((table < 0).any()):
        raise CorruptFile("an importance is negative or not finite")
    return table


def _encode(weight: QTensor, kind: DType, importance: Tensor | None) -> Tensor:
    values = weight.dequantize(torch.float32)
    if not bool(torch.isfinite(values).all()):
        raise CorruptFile(
            "a weight is not finite", hint="the file is damaged, or was made by a run that diverged"
        )
    if kind.is_block:
        return find_quantizer(kind)(values, importance)
    result = values.to(TORCH_DTYPES[kind.name])
    if not bool(torch.isfinite(result).all()):
        raise CorruptFile(
            f"a weight is not finite as {kind.name}: it is too large", hint="choose bf16 or f32"
        )
    return result
