"""IQ3_XXS written: points of 4 values of a codebook of 256, seven bits of signs for two, a 4-bit scale for 32."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .iq2_xxs import signs_and_codes
from .points import Codebook, search

BOOK = Codebook("iq3_xxs", dims=4, group=32, even=True, unit=0.25)


@dtype("iq3_xxs").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales and points by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    found = search(weights, importance, BOOK)
    upper = signs_and_codes(found.signs, found.code).flatten(1)
    parts = [found.d.view(torch.uint8), found.points.to(torch.uint8), upper]
    return torch.cat(parts, dim=1).view(len(weights), -1)
