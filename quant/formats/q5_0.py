"""Q5_0: 32 five-bit weights around 16 that share one float16 scale."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import five_bits, half, put_fifth_bits, put_half, put_nibbles
from .search import cut_codes, fit_symmetric, outermost, round_half, symmetric_codes, weigh


@dtype("q5_0").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times (weight - 16).  # [n, 22] uint8 -> [n, 32]"""
    weights = five_bits(blocks[:, 2:6], blocks[:, 6:]).view(torch.int8).sub_(16)
    return weights * half(blocks, 0)


@dtype("q5_0").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Give the outermost weight code 0, bit for bit as ggml-quants.c; with importance, search for the scale."""
    blocks = weights.reshape(-1, 32)
    if importance is None:
        scale = outermost(blocks) / -16
        codes = cut_codes(blocks, scale, 16.5, 31)
    else:
        counts = weigh(weights, importance, weights.square().mean(-1, keepdim=True)).view(-1, 32)
        scale = fit_symmetric(blocks, counts, 16)
        codes = symmetric_codes(blocks, round_half(scale), 16) + 16
    return torch.cat([put_half(scale), put_fifth_bits(codes), put_nibbles(codes)], dim=1).view(
        len(weights), -1
    )
