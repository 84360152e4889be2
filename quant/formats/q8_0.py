"""Q8_0: 32 signed bytes that share one float16 scale."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import half


@dtype("q8_0").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return scale times value.  # [n, 34] uint8 -> [n, 32]"""
    return blocks[:, 2:].view(torch.int8) * half(blocks, 0)
