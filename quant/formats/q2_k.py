"""Q2_K: 16 groups of 16 two-bit weights, each with a 4-bit scale and a 4-bit minimum."""

from __future__ import annotations

from torch import Tensor

from ..dtype import dtype
from .blocks import half, pairs


@dtype("q2_k").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times weight minus minimum.  # [n, 84] uint8 -> [n, 256]

    A group's byte holds its scale in the low half and its minimum in the high half.
    """
    scale = (half(blocks, 80) * (blocks[:, :16] & 15)).unsqueeze(-1)
    minimum = (half(blocks, 82) * (blocks[:, :16] >> 4)).unsqueeze(-1)
    weights = pairs(blocks[:, 16:80].view(-1, 2, 32)).view(-1, 16, 16)
    return (weights * scale).sub_(minimum).flatten(1)
