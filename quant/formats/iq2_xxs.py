"""IQ2_XXS written: points of 8 values of a codebook of 256, seven bits of signs for each, a 4-bit scale for 32."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .points import Codebook, search

BOOK = Codebook("iq2_xxs", dims=8, group=32, even=True, unit=0.125)


@dtype("iq2_xxs").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales and points by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    found = search(weights, importance, BOOK)
    points = found.points.to(torch.uint8).view(-1, 8, 4)
    upper = signs_and_codes(found.signs, found.code)
    groups = torch.cat([points, upper], dim=-1).flatten(1)
    return torch.cat([found.d.view(torch.uint8), groups], dim=1).view(len(weights), -1)


def signs_and_codes(signs: Tensor, code: Tensor) -> Tensor:
    """Join four times seven signs, and a code on top, into four bytes.  # [n, 32], [n, 8] -> [n, 8, 4] uint8"""
    shifts = 7 * torch.arange(4, device=signs.device)
    upper = ((signs.long() & 127).view(-1, 8, 4) << shifts).sum(-1) | code.long() << 28
    return upper.view(torch.uint8).view(-1, 8, 8)[..., :4]
