"""IQ2_S written: points of 8 values of a codebook of 1024, eight signs for each, a 4-bit scale for 16."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .iq2_xs import code_pairs
from .points import Codebook, search

BOOK = Codebook("iq2_s", dims=8, group=16, even=False, unit=0.125)


@dtype("iq2_s").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales and points by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    found = search(weights, importance, BOOK)
    shifts = 2 * torch.arange(4, device=weights.device)
    high = ((found.points >> 8).view(-1, 8, 4) << shifts).sum(-1).to(torch.uint8)
    low, signs = (found.points & 255).to(torch.uint8), found.signs.to(torch.uint8)
    parts = [found.d.view(torch.uint8), low, signs, high, code_pairs(found.code)]
    return torch.cat(parts, dim=1).view(len(weights), -1)
