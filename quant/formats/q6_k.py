"""Q6_K: 16 groups of 16 six-bit weights, each with a signed 8-bit scale."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import half, nibbles, pairs, put_half, put_nibbles, put_pairs
from .search import Rule, fit_scales, symmetric_codes


@dtype("q6_k").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times (weight - 32).  # [n, 210] uint8 -> [n, 256]

    Each half of a block (128 weights) has 64 bytes of low nibbles and 32 bytes of upper bit pairs.
    """
    low = nibbles(blocks[:, 0:128].view(-1, 2, 64)).view(-1, 2, 4, 32)
    high = pairs(blocks[:, 128:192].view(-1, 2, 32))
    weights = high.bitwise_left_shift_(4).bitwise_or_(low).view(torch.int8).sub_(32)
    scale = half(blocks, 208) * blocks[:, 192:208].view(torch.int8)
    return (weights.view(-1, 16, 16) * scale.unsqueeze(-1)).flatten(1)


@dtype("q6_k").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    x = weights.reshape(-1, 16, 16)
    counts = x.square() if importance is None else importance.expand_as(weights).reshape(x.shape)
    found = fit_scales(x, counts, Rule(32, 128))
    codes = (symmetric_codes(x, found.scales, 32) + 32).to(torch.uint8).view(-1, 2, 128)
    scales = found.scale.to(torch.int8).view(torch.uint8)
    low, high = put_nibbles(codes).flatten(1), put_pairs(codes >> 4).flatten(1)
    return torch.cat([low, high, scales, put_half(found.d)], dim=1).view(len(weights), -1)
