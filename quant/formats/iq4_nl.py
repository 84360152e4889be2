"""IQ4_NL: 32 indices into 16 unevenly spaced levels that share one float16 scale."""

from __future__ import annotations

from torch import Tensor

from ..dtype import dtype
from .blocks import half, look_up, nibbles

# Denser around zero, where most weights are.
LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@dtype("iq4_nl").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times level.  # [n, 18] uint8 -> [n, 32]"""
    return look_up(LEVELS, nibbles(blocks[:, 2:]).flatten(1)).mul_(half(blocks, 0))
