"""ggml's own quantizers, through the library that llama-cpp-python brings."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from mull.quant.dtype import DType
from peers.binding import library


@cache
def _functions() -> tuple[ctypes._CFuncPtr, ctypes._CFuncPtr]:
    loaded = library()._lib  # symbols of the libraries that it was linked to are found through it
    prepare, quantize = loaded.ggml_quantize_init, loaded.ggml_quantize_chunk
    prepare.argtypes, prepare.restype = [ctypes.c_int], None
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    quantize.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
    quantize.restype = ctypes.c_size_t
    return prepare, quantize


def quantize_rows(values: torch.Tensor, kind: DType, importance: torch.Tensor | None = None) -> torch.Tensor:
    """Return what ggml_quantize_chunk makes of float32 rows: uint8 [rows, bytes per row]."""
    rows, cols = values.shape
    values = values.contiguous()
    prepare, quantize = _functions()
    prepare(kind.ggml_id)
    out = torch.empty((rows, kind.shape_bytes((cols,))), dtype=torch.uint8)
    weights = None if importance is None else importance.contiguous().data_ptr()
    size = quantize(kind.ggml_id, values.data_ptr(), out.data_ptr(), 0, rows, cols, weights)
    assert size == out.numel()
    return out
