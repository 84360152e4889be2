"""Q5_K: 8 groups of 32 five-bit weights, each with a 6-bit scale and a 6-bit minimum."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import bits, half, nibbles, put_bits, put_half, put_nibbles, put_six_bit_scales, six_bit_scales
from .search import Rule, block_importance, fit_lines, line_codes, weigh_by_size


@dtype("q5_k").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times weight minus minimum.  # [n, 176] uint8 -> [n, 256]"""
    scales, mins = six_bit_scales(blocks[:, 4:16])
    scale = (half(blocks, 0) * scales).unsqueeze(-1)
    minimum = (half(blocks, 2) * mins).unsqueeze(-1)
    low = nibbles(blocks[:, 48:].view(-1, 4, 32)).view(-1, 8, 32)
    weights = bits(blocks[:, 16:48]).bitwise_left_shift_(4).bitwise_or_(low)
    return (weights * scale).sub_(minimum).flatten(1)


@dtype("q5_k").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    x = weights.reshape(-1, 8, 32)
    counts = weigh_by_size(x) if importance is None else block_importance(weights, importance, 2).view_as(x)
    found = fit_lines(x, counts, Rule(31, 63, tries=16))
    codes = line_codes(x, found.scales, found.minimums, 31).to(torch.uint8)
    scales = put_six_bit_scales(found.scale, found.minimum)
    low = put_nibbles(codes.view(-1, 4, 64)).flatten(1)
    parts = [put_half(found.d), put_half(found.m), scales, put_bits(codes.flatten(1) >> 4), low]
    return torch.cat(parts, dim=1).view(len(weights), -1)
