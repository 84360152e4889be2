"""Weights in fewer bits: any readable tensor to any type that has a quantizer, a bounded number of rows at a time."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from ..errors import CorruptFile, NotSupported, ShapeMismatch
from ..kernels.cpu import native
from . import formats as formats  # registers the quantizers
from .dtype import DType, find_quantizer
from .formats.floats import TORCH_DTYPES
from .qtensor import QTensor

FLOATS: Final = ("f32", "f16", "bf16")

# Weights at a time: what the temporaries of torch may take, and how long the native encoders go on by themselves.
_CHUNK: Final = 1 << 20
_NATIVE_CHUNK: Final = 1 << 24


def encode(
    weight: QTensor,
    kind: DType,
    importance: Tensor | None = None,
    *,
    rows: slice | None = None,
    isa: native.Isa | None = native.BEST,
) -> QTensor:
    """Return the weights as `kind`: rounded to nearest even if that is a float, else quantized.

    importance: float32 [cols], how much an error in a column matters; [n, cols] for a stack of n matrices.
    rows: only these, of all rows one after another; the result is then [rows, cols], else shaped as the weight.
    isa: the instruction set of the native encoders; None for those in torch, which serve other devices too.
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
    table = None if importance is None else _importance(importance.to(weight.device), weight.shape)
    each = max(1, len(stored) // len(table)) if table is not None else max(1, len(stored))
    native_isa = isa if kind.is_block and weight.device.type == "cpu" else None
    most = max(1, (_NATIVE_CHUNK if native_isa else _CHUNK) // max(1, cols))
    at = first
    while at < last:
        stop = min(last, at + most, (at // each + 1) * each)
        part = QTensor((stored[at:stop].contiguous(),), weight.dtype, (stop - at, cols))
        shares = None if table is None else table[at // each if len(table) > 1 else 0]
        _encode(part, kind, shares, native_isa, out[at - first : stop - first])
        at = stop
    return QTensor((out if kind.is_block else out.view(shape),), kind, shape)


def _empty(kind: DType, rows: int, cols: int, device: torch.device) -> Tensor:
    """Make the memory of the result: uint8 [rows, bytes per row], or floats [rows, cols]."""
    if kind.name in FLOATS:
        return torch.empty((rows, cols), dtype=TORCH_DTYPES[kind.name], device=device)
    if not kind.is_block:
        raise NotSupported(f"weights cannot be made {kind.name}", hint="choose a float or a quantized type")
    return torch.empty((rows, kind.shape_bytes((cols,))), dtype=torch.uint8, device=device)


def _importance(importance: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Check an importance and return it as float32 [matrices or 1, cols]."""
    matrices = shape[0] if len(shape) > 2 else 1
    cols = importance.shape[-1] if importance.dim() else 1
    table = importance.float().reshape(-1, cols).contiguous()
    if cols != shape[-1] or len(table) not in (1, matrices):
        raise ShapeMismatch(f"an importance of shape {list(importance.shape)} for weights of {list(shape)}")
    if not bool(torch.isfinite(table).all()) or bool((table < 0).any()):
        raise CorruptFile("an importance is negative or not finite")
    return table


def _encode(
    weight: QTensor, kind: DType, importance: Tensor | None, isa: native.Isa | None, out: Tensor
) -> None:
    """Encode some rows of one matrix into `out`."""
    cols = weight.shape[-1]
    if isa is not None:
        source = weight.dtype.name, weight.parts[0]
        if native.encode(isa, source, cols, kind.name, importance, out):
            return
    values = weight.dequantize(torch.float32).contiguous()
    if isa is not None and native.encode(isa, ("f32", values), cols, kind.name, importance, out):
        return
    if not bool(torch.isfinite(values).all()):
        raise CorruptFile("a weight is not finite", hint="is the file damaged?")
    made = QTensor((out,), kind, (len(out), cols))
    out.copy_(find_quantizer(kind)(values, importance) if kind.is_block else values)
    if not bool(torch.isfinite(made.dequantize(torch.float32)).all()):
        raise CorruptFile(f"a weight is too large, not finite as {kind.name}", hint="choose bf16 or f32")
