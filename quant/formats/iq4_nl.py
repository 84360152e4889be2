"""IQ4_NL: 32 indices into 16 unevenly spaced levels that share one float16 scale."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import half, look_up, nibbles, put_half, put_nibbles
from .importance import count_errors, unit_blocks
from .search import inverse

# Denser around zero, where most weights are.
LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
# Halfway between levels that follow one another; a number there takes the upper one.
_BETWEEN = tuple((a + b) / 2 for a, b in pairwise(LEVELS))
# The levels that a group's largest weight becomes at first, and fractions of the best scale that are tried next.
_FIRST_TRIES = (-142, -137, -132, -127, -122, -117, -112, -107, -102, -97, 97, 104, 111, 118, 125)
_LATER_TRIES = (0.97, 0.98, 0.99, 1.01, 1.02, 1.03)


@dtype("iq4_nl").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times level.  # [n, 18] uint8 -> [n, 32]"""
    return look_up(LEVELS, nibbles(blocks[:, 2:]).flatten(1)).mul_(half(blocks, 0))


@dtype("iq4_nl").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    unit = unit_blocks(weights, 32)
    d = level_scales(unit.u, count_errors(unit.u, importance).levels) * unit.peak.squeeze(-1)
    codes = level_codes(weights.reshape(-1, 32), d.half().float())
    return torch.cat([put_half(d), put_nibbles(codes)], dim=1).view(len(weights), -1)


def level_codes(x: Tensor, scale: Tensor) -> Tensor:
    """Return the codes of the levels next to x / scale; of two equally near, the upper.  # [..., 32], [...] -> uint8"""
    between = torch.tensor(_BETWEEN, device=x.device)
    scaled = (x * inverse(scale).unsqueeze(-1)).contiguous()
    return torch.bucketize(scaled, between, right=True).to(torch.uint8)


def sum_levels(x: Tensor, w: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σ w x v and Σ w v² of the levels v next to x / scale.  # [..., 32], [...] -> 2 x [...]"""
    levels = look_up(LEVELS, level_codes(x, scale))
    weighed = w * levels
    return (weighed * x).sum(-1), (weighed * levels).sum(-1)


def level_scales(x: Tensor, w: Tensor) -> Tensor:
    """Find the scales of groups by which their errors are least; 0 where all of x nearly is.  # [..., 32] -> [...]"""
    high, low = x.amax(-1), x.amin(-1)
    peak = torch.where(high > -low, high, low)
    best, scale = torch.full_like(peak, -1), torch.zeros_like(peak)
    for tries, later in ((_FIRST_TRIES, False), (_LATER_TRIES, True)):
        start = scale
        for number in tries:
            products, squares = sum_levels(x, w, start / number if later else peak / number)
            gain = torch.where(squares > 0, products * products / squares, -2)
            scale = torch.where(gain > best, products / squares, scale)
            best = torch.maximum(gain, best)
    return torch.where(peak.abs() < 1e-9, 0, scale)
