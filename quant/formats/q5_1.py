"""Q5_1: 32 five-bit weights that share a float16 scale and a float16 minimum."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import five_bits, half, put_fifth_bits, put_half, put_nibbles
from .search import spread


@dtype("q5_1").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times weight plus minimum.  # [n, 24] uint8 -> [n, 32]"""
    return (five_bits(blocks[:, 4:8], blocks[:, 8:]) * half(blocks, 0)).add_(half(blocks, 2))


@dtype("q5_1").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Spread codes from the least to the largest weight, bit for bit as ggml-quants.c; with importance, search."""
    scale, low, codes = spread(weights, importance, 31)
    return torch.cat([put_half(scale), put_half(low), put_fifth_bits(codes), put_nibbles(codes)], dim=1).view(
        len(weights), -1
    )
