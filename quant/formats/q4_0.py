"""Q4_0: 32 four-bit weights around 8 that share one float16 scale."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import half, nibbles, put_half, put_nibbles
from .search import cut_codes, fit_symmetric, outermost, round_half, symmetric_codes, weigh


@dtype("q4_0").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times (weight - 8).  # [n, 18] uint8 -> [n, 32]"""
    weights = nibbles(blocks[:, 2:]).view(torch.int8).sub_(8)
    return weights.flatten(1) * half(blocks, 0)


@dtype("q4_0").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Give the outermost weight code 0, bit for bit as ggml-quants.c; with importance, search for the scale."""
    blocks = weights.reshape(-1, 32)
    if importance is None:
        scale = outermost(blocks) / -8
        codes = cut_codes(blocks, scale, 8.5, 15)
    else:
        counts = weigh(weights, importance, weights.square().mean(-1, keepdim=True)).view(-1, 32)
        scale = fit_symmetric(blocks, counts, 8)
        codes = symmetric_codes(blocks, round_half(scale), 8) + 8
    return torch.cat([put_half(scale), put_nibbles(codes)], dim=1).view(len(weights), -1)
