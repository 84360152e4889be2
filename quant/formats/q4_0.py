"""Q4_0: 32 four-bit weights around 8 that share one float16 scale."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import half, nibbles


@dtype("q4_0").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times (weight - 8).  # [n, 18] uint8 -> [n, 32]"""
    weights = nibbles(blocks[:, 2:]).view(torch.int8).sub_(8)
    return weights.flatten(1) * half(blocks, 0)
