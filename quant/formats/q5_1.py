"""Q5_1: 32 five-bit weights that share a float16 scale and a float16 minimum."""

from __future__ import annotations

from torch import Tensor

from ..dtype import dtype
from .blocks import five_bits, half


@dtype("q5_1").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times weight plus minimum.  # [n, 24] uint8 -> [n, 32]"""
    return (five_bits(blocks[:, 4:8], blocks[:, 8:]) * half(blocks, 0)).add_(half(blocks, 2))
