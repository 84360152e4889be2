"""Q4_1: 32 four-bit weights that share a float16 scale and a float16 minimum."""

from __future__ import annotations

from torch import Tensor

from ..dtype import dtype
from .blocks import half, nibbles


@dtype("q4_1").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times weight plus minimum.  # [n, 20] uint8 -> [n, 32]"""
    return (nibbles(blocks[:, 4:]).flatten(1) * half(blocks, 0)).add_(half(blocks, 2))
