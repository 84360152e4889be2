"""Q8_0: 32 signed bytes that share one float16 scale."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import half, put_half
from .search import inverse, round_away


@dtype("q8_0").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times value.  # [n, 34] uint8 -> [n, 32]"""
    return blocks[:, 2:].view(torch.int8) * half(blocks, 0)


@dtype("q8_0").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Give the largest weight 127, round halves away from 0, bit for bit as ggml-quants.c; importance is not used."""
    blocks = weights.reshape(-1, 32)
    scale = blocks.abs().amax(-1) / 127
    codes = round_away(blocks * inverse(scale).unsqueeze(-1)).to(torch.int8)
    return torch.cat([put_half(scale), codes.view(torch.uint8)], dim=1).view(len(weights), -1)
