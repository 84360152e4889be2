"""Products with weights in their own bits, where the extension was built and this processor can run it."""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..dispatch import kernel

try:
    from . import _native
except ImportError:  # it was installed without a C++ compiler
    _native = None  # type: ignore[assignment]

ISA: Final = "avx512_vnni"

# Types that have kernels, by GGUF's numbers (mull.h).
TYPES: Final = {"f32": 0, "f16": 1, "bf16": 30, "q4_0": 2, "q8_0": 8, "q4_k": 12, "q5_k": 13, "q6_k": 14}

# From this many rows on, unpacking a weight once and multiplying in bfloat16 beats unpacking it for each row.
MANY_ROWS: Final = 16
_threads = [torch.get_num_threads()]
# Weights unpacked at a time: they are multiplied while they are still in the cache.
_UNPACKED: Final = 1 << 21


def is_available() -> bool:
    """Tell whether the extension was built and this processor can run it."""
    return _native is not None and _native.supported()


def why_not() -> str:
    """Say why there are no native kernels."""
    return "they were not built" if _native is None else "none for this processor and compiler"


def set_threads(count: int) -> None:
    """Set how many threads the kernels use, the caller's included; a process has one set, as torch's."""
    _threads[0] = count
    if is_available():
        _native.set_threads(count)


def share_cores(num_rows: int) -> None:
    """Divide the cores for a step of `num_rows` tokens: torch's threads spin for a while after each of its loops.

    With few rows the kernels do nearly all the work, and a spinning thread would take a core from them.
    """
    wanted = 1 if num_rows < MANY_ROWS else _threads[0]
    if torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)


def stored_linear(name: str, x: Tensor, weight: Tensor, cols: int) -> Tensor:
    """Multiply x [T, cols] by a stored matrix: uint8 [rows, bytes] of blocks, or [rows, cols] of halves.

    Few rows: float32, with activations rounded to 8 bits where the weights are quantized. Many: bfloat16, or
    the type of float32 weights.
    """
    if len(x) >= MANY_ROWS:
        return _many(name, x, weight, cols)
    x = x.float().contiguous()
    rows = weight.shape[0]
    y = torch.empty(len(x), rows)
    row_bytes = weight.stride(0) * weight.element_size()
    _native.matmul(TYPES[name], weight.data_ptr(), row_bytes, rows, cols, x.data_ptr(), len(x), y.data_ptr())
    return y


def _many(name: str, x: Tensor, weight: Tensor, cols: int) -> Tensor:
    if name in ("f32", "bf16"):
        return F.linear(x.to(weight.dtype), weight)
    x = x.to(torch.bfloat16)
    rows = weight.shape[0]
    row_bytes = weight.stride(0) * weight.element_size()
    step = max(1, _UNPACKED // cols)
    unpacked = torch.empty(min(step, rows), cols, dtype=torch.bfloat16)
    y = torch.empty(len(x), rows, dtype=torch.bfloat16)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        address = weight.data_ptr() + first * row_bytes
        _native.unpack_bf16(TYPES[name], address, row_bytes, count, cols, unpacked.data_ptr())
        y[:, first : first + count] = F.linear(x, unpacked[:count])
    return y


if is_available():
    for _name in TYPES:
        kernel("stored_linear", _name, "cpu")(partial(stored_linear, _name))
