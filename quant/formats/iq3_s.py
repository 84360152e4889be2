"""IQ3_S written: points of 4 values of a codebook of 512, eight signs for two, a 4-bit scale for 32."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .iq2_xs import code_pairs
from .points import Codebook, search

BOOK = Codebook("iq3_s", dims=4, group=32, even=False, unit=1)


@dtype("iq3_s").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales and points by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    found = search(weights, importance, BOOK)
    bits = torch.arange(8, device=weights.device)
    high = ((found.points >> 8).view(-1, 8, 8) << bits).sum(-1).to(torch.uint8)
    low, signs = (found.points & 255).to(torch.uint8), found.signs.to(torch.uint8)
    parts = [found.d.view(torch.uint8), low, high, signs, code_pairs(found.code)]
    return torch.cat(parts, dim=1).view(len(weights), -1)
