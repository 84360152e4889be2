"""Every weight type: name, block and bytes, and the tables of what unpacks and makes its blocks; free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import NotSupported, ShapeMismatch

if TYPE_CHECKING:
    from torch import Tensor

    # blocks: uint8 [num_blocks, nbytes]  ->  float32 [num_blocks, block], on the same device
    Dequantizer = Callable[[Tensor], Tensor]
    # weights: float32 [rows, cols], importance: float32 [cols] or None  ->  uint8 [rows, bytes per row]
    Quantizer = Callable[[Tensor, Tensor | None], Tensor]

_dequantizers: dict[str, Dequantizer] = {}
_quantizers: dict[str, Quantizer] = {}


@dataclass(frozen=True, slots=True)
class DType:
    """How weights are stored: `block` of them share `nbytes` bytes; ggml_id is None outside GGUF."""

    name: str
    block: int
    nbytes: int
    ggml_id: int | None

    @property
    def bits(self) -> float:
        """Bits per weight, scales included."""
        return self.nbytes * 8 / self.block

    @property
    def is_block(self) -> bool:
        """Whether several weights share one block of bytes."""
        return self.block > 1

    def shape_bytes(self, shape: Sequence[int]) -> int:
        """Return the bytes of a tensor of this shape; raise ShapeMismatch if its rows are no whole blocks."""
        row = shape[-1] if shape else 1
        if row % self.block:
            raise ShapeMismatch(f"a row of {row} weights cannot be {self.name}, in blocks of {self.block}")
        return math.prod(shape) // self.block * self.nbytes

    def dequantizer(self, function: Dequantizer) -> Dequantizer:
        """Register the function that turns this type's blocks into float32 (a decorator)."""
        _dequantizers[self.name] = function
        return function

    def quantizer(self, function: Quantizer) -> Quantizer:
        """Register the function that turns float32 rows into this type's blocks (a decorator)."""
        _quantizers[self.name] = function
        return function


# name, weights per block, bytes per block, number in GGUF files (None: safetensors only)
_TABLE: tuple[tuple[str, int, int, int | None], ...] = (
    ("f32", 1, 4, 0),
    ("f16", 1, 2, 1),
    ("bf16", 1, 2, 30),
    ("f64", 1, 8, 28),
    ("i8", 1, 1, 24),
    ("i16", 1, 2, 25),
    ("i32", 1, 4, 26),
    ("i64", 1, 8, 27),
    ("u8", 1, 1, None),
    ("u16", 1, 2, None),
    ("u32", 1, 4, None),
    ("u64", 1, 8, None),
    ("bool", 1, 1, None),
    ("f8_e4m3", 1, 1, None),
    ("f8_e5m2", 1, 1, None),
    ("q4_0", 32, 18, 2),
    ("q4_1", 32, 20, 3),
    ("q5_0", 32, 22, 6),
    ("q5_1", 32, 24, 7),
    ("q8_0", 32, 34, 8),
    ("q8_1", 32, 40, 9),
    ("q2_k", 256, 84, 10),
    ("q3_k", 256, 110, 11),
    ("q4_k", 256, 144, 12),
    ("q5_k", 256, 176, 13),
    ("q6_k", 256, 210, 14),
    ("q8_k", 256, 292, 15),
    ("iq2_xxs", 256, 66, 16),
    ("iq2_xs", 256, 74, 17),
    ("iq3_xxs", 256, 98, 18),
    ("iq1_s", 256, 50, 19),
    ("iq4_nl", 32, 18, 20),
    ("iq3_s", 256, 110, 21),
    ("iq2_s", 256, 82, 22),
    ("iq4_xs", 256, 136, 23),
    ("iq1_m", 256, 56, 29),
    ("tq1_0", 256, 54, 34),
    ("tq2_0", 256, 66, 35),
    ("mxfp4", 32, 17, 39),
    ("nvfp4", 64, 36, 40),
    ("q1_0", 128, 18, 41),
)

DTYPES: dict[str, DType] = {row[0]: DType(*row) for row in _TABLE}
_BY_GGML_ID: dict[int, DType] = {d.ggml_id: d for d in DTYPES.values() if d.ggml_id is not None}


def dtype(name: str) -> DType:
    """Return the type of this name; raise NotSupported if there is none."""
    try:
        return DTYPES[name]
    except KeyError:
        raise NotSupported(f"unknown weight type {name!r}", hint=f"known types: {' '.join(DTYPES)}") from None


def dtype_by_ggml_id(ggml_id: int) -> DType | None:
    """Return the type that GGUF files write as this number, or None."""
    return _BY_GGML_ID.get(ggml_id)


def find_dequantizer(kind: DType) -> Dequantizer:
    """Return the registered dequantizer of a block type; raise NotSupported if it has none."""
    try:
        return _dequantizers[kind.name]
    except KeyError:
        raise NotSupported(
            f"weights of type {kind.name} cannot be read: no dequantizer is known for it",
            hint=f"convert the model to one of: {' '.join(_dequantizers)}",
        ) from None


def find_quantizer(kind: DType) -> Quantizer:
    """Return the registered quantizer of a block type; raise NotSupported if it has none."""
    try:
        return _quantizers[kind.name]
    except KeyError:
        raise NotSupported(
            f"weights of type {kind.name} cannot be made: no quantizer is known for it",
            hint=f"choose one of: f32 f16 bf16 {' '.join(_quantizers)}",
        ) from None
