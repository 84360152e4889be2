"""IQ4_XS: 8 groups of 32 indices into IQ4_NL's levels, each with a signed 6-bit scale."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import half, look_up, nibbles, pairs, put_half, put_nibbles
from .importance import count_errors, unit_blocks
from .iq4_nl import LEVELS, level_codes, level_scales, sum_levels
from .search import inverse


@dtype("iq4_xs").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times level.  # [n, 136] uint8 -> [n, 256]

    Two bytes hold the upper bit pairs of the scales, four their low halves, both in the order of groups.
    """
    high = pairs(blocks[:, 2:4]).transpose(1, 2).flatten(1)
    low = nibbles(blocks[:, 4:8]).transpose(1, 2).flatten(1)
    scales = high.bitwise_left_shift_(4).bitwise_or_(low).view(torch.int8).sub_(32)
    levels = look_up(LEVELS, nibbles(blocks[:, 8:].view(-1, 8, 16)).flatten(2))
    return levels.mul_((half(blocks, 0) * scales).unsqueeze(-1)).flatten(1)


@dtype("iq4_xs").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    unit = unit_blocks(weights, 256)
    u, w = (t.view(-1, 8, 32) for t in (unit.u, count_errors(unit.u, importance).levels))
    scales = level_scales(u, w)
    outer = scales.gather(-1, scales.abs().argmax(-1, keepdim=True))
    _, following = _choose(u, w, scales, -outer / 32)
    d = (following * unit.peak).half().float()
    code, _ = _choose(u, w, scales, torch.where(unit.peak > 0, d / unit.peak, 0))
    code = torch.where(unit.peak > 0, code, 0)
    levels = level_codes(weights.reshape(-1, 8, 32), d * code)
    stored = (code + 32).to(torch.uint8)
    shifts = 2 * torch.arange(4, dtype=torch.uint8, device=weights.device)
    high = ((stored >> 4).view(-1, 2, 4) << shifts).sum(-1).to(torch.uint8)
    low = (stored & 15).view(-1, 4, 2)
    parts = [put_half(d.squeeze(-1)), high, low[..., 0] | low[..., 1] << 4, put_nibbles(levels).flatten(1)]
    return torch.cat(parts, dim=1).view(len(weights), -1)


def _choose(u: Tensor, w: Tensor, scales: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Return groups' codes, -32 to 31, under one d, and the d that serves their levels best.  # d: [n, 1]"""
    middle = (scales * inverse(d)).round()
    lowest = torch.full_like(scales, torch.inf)
    code, over, under = (torch.zeros_like(scales) for _ in range(3))
    for step in (-1, 0, 1):
        tried = middle + step
        products, squares = sum_levels(u, w, d * tried)
        error = d * tried * (d * tried * squares - 2 * products)
        better = (error < lowest) & (tried >= -32) & (tried <= 31)
        lowest, code = torch.where(better, error, lowest), torch.where(better, tried, code)
        over, under = torch.where(better, products, over), torch.where(better, squares, under)
    total = (code * code * under).sum(-1, keepdim=True)
    return code, torch.where(total > 0, (code * over).sum(-1, keepdim=True) / total, d)
