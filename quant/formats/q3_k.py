"""Q3_K: 16 groups of 16 three-bit weights, each with a signed 6-bit scale."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import bits, half, nibbles, pairs, put_bits, put_half, put_nibbles, put_pairs
from .search import Rule, block_importance, fit_scales, symmetric_codes, weigh_by_size


@dtype("q3_k").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times (weight - 4).  # [n, 110] uint8 -> [n, 256]

    The upper bits of all weights come first, then the lower two, then the scales.
    """
    high = bits(blocks[:, 0:32]).view(-1, 2, 4, 32)
    low = pairs(blocks[:, 32:96].view(-1, 2, 32))
    weights = high.bitwise_left_shift_(2).bitwise_or_(low).view(torch.int8).sub_(4)
    scale = half(blocks, 108) * _scales(blocks[:, 96:108])
    return (weights.view(-1, 16, 16) * scale.unsqueeze(-1)).flatten(1)


def _scales(packed: Tensor) -> Tensor:
    """Unpack 16 signed scales, low halves before upper bit pairs.  # [n, 12] uint8 -> [n, 16] int8"""
    low = nibbles(packed[:, 0:8]).flatten(1)
    high = pairs(packed[:, 8:12]).flatten(1)
    return high.bitwise_left_shift_(4).bitwise_or_(low).view(torch.int8).sub_(32)


@dtype("q3_k").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    x = weights.reshape(-1, 16, 16)
    counts = weigh_by_size(x) if importance is None else block_importance(weights, importance, 2).view_as(x)
    found = fit_scales(x, counts, Rule(4, 32))
    codes = (symmetric_codes(x, found.scales, 4) + 4).to(torch.uint8).flatten(1)
    scales = (found.scale + 32).to(torch.uint8)
    low = put_pairs(codes.view(-1, 2, 128)).flatten(1)
    parts = [put_bits(codes >> 2), low, put_nibbles(scales), put_pairs(scales >> 4), put_half(found.d)]
    return torch.cat(parts, dim=1).view(len(weights), -1)
