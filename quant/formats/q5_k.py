"""Q5_K: 8 groups of 32 five-bit weights, each with a 6-bit scale and a 6-bit minimum."""

from __future__ import annotations

from torch import Tensor

from ..dtype import dtype
from .blocks import bits, half, nibbles, six_bit_scales


@dtype("q5_k").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times weight minus minimum.  # [n, 176] uint8 -> [n, 256]"""
    scales, mins = six_bit_scales(blocks[:, 4:16])
    scale = (half(blocks, 0) * scales).unsqueeze(-1)
    minimum = (half(blocks, 2) * mins).unsqueeze(-1)
    low = nibbles(blocks[:, 48:].view(-1, 4, 32)).view(-1, 8, 32)
    weights = bits(blocks[:, 16:48]).bitwise_left_shift_(4).bitwise_or_(low)
    return (weights * scale).sub_(minimum).flatten(1)
