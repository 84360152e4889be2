"""Types with codebooks, uneven levels and three values: our encoders beside ggml's, which also reads our blocks."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import pytest
import torch
import weight_rows
from mull.kernels.cpu import native
from mull.quant.dtype import dtype
from mull.quant.encode import encode
from mull.quant.qtensor import QTensor
from peers.binding import library

pytestmark = pytest.mark.peer

SEARCHED = ("iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs")
# ggml refuses these without importance.
NEED_IMPORTANCE = ("iq2_xxs", "iq2_xs")
EXACT = ("tq1_0", "tq2_0", "mxfp4")
ENCODERS = [
    pytest.param(None, id="torch"),
    *(pytest.param(isa, id=isa.name) for isa in native.instruction_sets()),
]
ROWS, COLS = 8, 1024
# What may differ by how a scale is rounded, of the weights' energy.
ROUNDING = 1e-6


@cache
def ggml() -> ctypes.CDLL:
    shared = library()._lib
    shared.ggml_quantize_chunk.restype = ctypes.c_size_t
    shared.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    for name in (*SEARCHED, *EXACT):
        reader = getattr(shared, f"dequantize_row_{name}")
        reader.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        reader.restype = None
    return shared


def theirs(values: np.ndarray, name: str, importance: np.ndarray | None) -> np.ndarray:
    """Return ggml's blocks.  # float32 [rows, cols] -> uint8 [rows, bytes]"""
    kind = dtype(name)
    out = np.zeros((len(values), kind.shape_bytes(values.shape[1:])), dtype=np.uint8)
    address = None if importance is None else importance.ctypes.data
    written = ggml().ggml_quantize_chunk(
        kind.ggml_id, values.ctypes.data, out.ctypes.data, 0, len(values), values.shape[1], address
    )
    assert written == out.nbytes
    return out


def ours(values: np.ndarray, name: str, importance: np.ndarray | None, isa: native.Isa | None) -> np.ndarray:
    weight = QTensor((torch.from_numpy(values),), dtype("f32"), values.shape)
    counts = None if importance is None else torch.from_numpy(importance)
    return encode(weight, dtype(name), counts, isa=isa).parts[0].numpy()


def read(blocks: np.ndarray, name: str) -> np.ndarray:
    """Return the weights as ggml reads them."""
    kind = dtype(name)
    out = np.empty((len(blocks), blocks.shape[1] // kind.nbytes * kind.block), dtype=np.float32)
    getattr(ggml(), f"dequantize_row_{name}")(
        np.ascontiguousarray(blocks).ctypes.data, out.ctypes.data, out.size
    )
    return out


def energy(values: np.ndarray, counts: np.ndarray | float) -> float:
    return float((counts * values.astype(np.float64) ** 2).sum())


@cache
def importance(spread: float) -> np.ndarray:
    """Return how much columns matter: their logarithms are normal, with this deviation."""
    generator = torch.Generator().manual_seed(9)
    return (torch.randn(COLS, generator=generator) * spread).exp().numpy()


def compare(
    values: np.ndarray, name: str, counts: np.ndarray | None, isa: native.Isa | None
) -> tuple[float, float]:
    """Return our squared error over ggml's, plain and by importance."""
    found, expected = read(ours(values, name, counts, isa), name), read(theirs(values, name, counts), name)
    ratios = []
    for by in (1.0, 1.0 if counts is None else counts):
        allowed = energy(expected - values, by) + ROUNDING * energy(values, by)
        ratios.append(energy(found - values, by) / allowed if allowed else float(np.abs(found).sum()))
    return ratios[0], ratios[1]


@pytest.mark.parametrize("isa", ENCODERS)
@pytest.mark.parametrize("kind", weight_rows.natural(1, 256))
@pytest.mark.parametrize("name", SEARCHED)
def test_errors_are_not_larger(name, kind, isa):
    values = weight_rows.natural(ROWS, COLS)[kind].numpy()
    for spread in (0.5, 1.0):
        assert max(compare(values, name, importance(spread), isa)) < 1.01
    if name not in NEED_IMPORTANCE:
        assert max(compare(values, name, None, isa)) < 0.98


@pytest.mark.parametrize(
    "kind", ["zeros", "constant", "negative constant", "single", "spiked", "small", "large"]
)
@pytest.mark.parametrize("name", SEARCHED)
def test_errors_of_rows_unlike_any_are_not_larger(name, kind):
    values = weight_rows.extreme(4, COLS)[kind].contiguous().numpy()
    assert max(compare(values, name, np.ones(COLS, dtype=np.float32), native.BEST)) < 1.05


@pytest.mark.parametrize("isa", ENCODERS)
@pytest.mark.parametrize("name", [*SEARCHED, *EXACT])
def test_ggml_reads_what_we_read(name, isa):
    values = weight_rows.natural(4, COLS)["heavy"].numpy()
    blocks = ours(values, name, importance(1.0), isa)
    kept = QTensor((torch.from_numpy(blocks),), dtype(name), values.shape).dequantize(torch.float32)
    np.testing.assert_array_equal(read(blocks, name), kept.numpy())


@pytest.mark.parametrize("isa", ENCODERS)
@pytest.mark.parametrize("name", EXACT)
def test_fixed_levels_are_equal_to_the_byte(name, isa):
    for kind, values in {**weight_rows.natural(ROWS, COLS), **weight_rows.extreme(4, COLS)}.items():
        if kind in ("denormal", "minus zeros", "mixed zeros"):
            continue  # ggml divides by a subnormal number; the sign of 0 is lost
        rows = values.contiguous().numpy()
        np.testing.assert_array_equal(ours(rows, name, None, isa), theirs(rows, name, None), kind)
