"""Q5_0: 32 five-bit weights around 16 that share one float16 scale."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import five_bits, half


@dtype("q5_0").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times (weight - 16).  # [n, 22] uint8 -> [n, 32]"""
    weights = five_bits(blocks[:, 2:6], blocks[:, 6:]).view(torch.int8).sub_(16)
    return weights * half(blocks, 0)
