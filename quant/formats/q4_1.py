"""Q4_1: 32 four-bit weights that share a float16 scale and a float16 minimum."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import half, nibbles, put_half, put_nibbles
from .search import spread


@dtype("q4_1").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times weight plus minimum.  # [n, 20] uint8 -> [n, 32]"""
    return (nibbles(blocks[:, 4:]).flatten(1) * half(blocks, 0)).add_(half(blocks, 2))


@dtype("q4_1").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Spread codes from the least to the largest weight, bit for bit as ggml-quants.c; with importance, search."""
    scale, low, codes = spread(weights, importance, 15)
    parts = [put_half(scale), put_half(low), put_nibbles(codes)]
    return torch.cat(parts, dim=1).view(len(weights), -1)
