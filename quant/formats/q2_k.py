"""Q2_K: 16 groups of 16 two-bit weights, each with a 4-bit scale and a 4-bit minimum."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import half, pairs, put_half, put_pairs
from .search import Rule, block_importance, fit_lines, line_codes, weigh_by_size


@dtype("q2_k").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times weight minus minimum.  # [n, 84] uint8 -> [n, 256]

    A group's byte holds its scale in the low half and its minimum in the high half.
    """
    scale = (half(blocks, 80) * (blocks[:, :16] & 15)).unsqueeze(-1)
    minimum = (half(blocks, 82) * (blocks[:, :16] >> 4)).unsqueeze(-1)
    weights = pairs(blocks[:, 16:80].view(-1, 2, 32)).view(-1, 16, 16)
    return (weights * scale).sub_(minimum).flatten(1)


@dtype("q2_k").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    x = weights.reshape(-1, 16, 16)
    counts = weigh_by_size(x) if importance is None else block_importance(weights, importance, 1).view_as(x)
    found = fit_lines(x, counts, Rule(3, 15, tries=20))
    codes = line_codes(x, found.scales, found.minimums, 3).view(-1, 2, 128)
    scales = found.scale.to(torch.uint8) | found.minimum.to(torch.uint8) << 4
    parts = [scales, put_pairs(codes).flatten(1), put_half(found.d), put_half(found.m)]
    return torch.cat(parts, dim=1).view(len(weights), -1)
