"""IQ4_XS: 8 groups of 32 indices into IQ4_NL's levels, each with a signed 6-bit scale."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import half, look_up, nibbles, pairs
from .iq4_nl import LEVELS


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
