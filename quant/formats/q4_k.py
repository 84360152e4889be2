"""Q4_K: 8 groups of 32 four-bit weights, each with a 6-bit scale and a 6-bit minimum."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import half, nibbles, put_half, put_nibbles, put_six_bit_scales, six_bit_scales
from .search import Rule, block_importance, fit_lines, line_codes, weigh_by_size


@dtype("q4_k").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times weight minus minimum.  # [n, 144] uint8 -> [n, 256]"""
    scales, mins = six_bit_scales(blocks[:, 4:16])
    scale = (half(blocks, 0) * scales).unsqueeze(-1)
    minimum = (half(blocks, 2) * mins).unsqueeze(-1)
    weights = nibbles(blocks[:, 16:].view(-1, 4, 32)).view(-1, 8, 32)
    return (weights * scale).sub_(minimum).flatten(1)


@dtype("q4_k").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    x = weights.reshape(-1, 8, 32)
    counts = weigh_by_size(x) if importance is None else block_importance(weights, importance, 2).view_as(x)
    found = fit_lines(x, counts, Rule(15, 63, first=-1, tries=21))
    codes = line_codes(x, found.scales, found.minimums, 15).view(-1, 4, 64)
    scales = put_six_bit_scales(found.scale, found.minimum)
    parts = [put_half(found.d), put_half(found.m), scales, put_nibbles(codes).flatten(1)]
    return torch.cat(parts, dim=1).view(len(weights), -1)
