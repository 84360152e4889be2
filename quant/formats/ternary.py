"""TQ1_0 and TQ2_0: 256 weights that are -1, 0 or 1 times a float16 scale, in 5 digits of base 3 a byte, or 2 bits each.

The gguf package unpacks them (codebooks.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import put_half, put_pairs
from .search import inverse, round_away


def _codes(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return 0, 1 or 2 for every weight, and the largest magnitudes.  # [rows, cols] -> int [n, 256], [n]"""
    blocks = weights.reshape(-1, 256)
    scale = blocks.abs().amax(-1)
    return (round_away(blocks * inverse(scale).unsqueeze(-1)) + 1).int(), scale


def _base_three(digits: Tensor) -> Tensor:
    """Read five digits as the fraction of a byte, rounded up.  # int [n, 5, b] -> uint8 [n, b]"""
    powers = torch.tensor([81, 27, 9, 3, 1], dtype=torch.int32, device=digits.device)
    number = (digits * powers.view(5, 1)).sum(1)
    return ((number * 256 + 242) // 243).to(torch.uint8)


@dtype("tq1_0").quantizer
def quantize_tq1_0(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Round to thirds of the largest weight, bit for bit as ggml-quants.c; importance is not used."""
    codes, scale = _codes(weights)
    last = torch.nn.functional.pad(codes[:, 240:], (0, 4)).view(-1, 5, 4)
    parts = [_base_three(codes[:, :160].view(-1, 5, 32)), _base_three(codes[:, 160:240].view(-1, 5, 16))]
    return torch.cat([*parts, _base_three(last), put_half(scale)], dim=1).view(len(weights), -1)


@dtype("tq2_0").quantizer
def quantize_tq2_0(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Round to thirds of the largest weight, bit for bit as ggml-quants.c; importance is not used."""
    codes, scale = _codes(weights)
    packed = put_pairs(codes.view(-1, 2, 128)).flatten(1)
    return torch.cat([packed, put_half(scale)], dim=1).view(len(weights), -1)
