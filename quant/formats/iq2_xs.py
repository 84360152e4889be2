"""IQ2_XS written: points of 8 values of a codebook of 512, seven bits of signs for each, a 4-bit scale for 16."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .points import Codebook, search

BOOK = Codebook("iq2_xs", dims=8, group=16, even=True, unit=0.125)


@dtype("iq2_xs").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Search for scales and points by weighted squared error.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
    found = search(weights, importance, BOOK)
    packed = (found.points | (found.signs & 127) << 9).to(torch.uint16)
    parts = [found.d.view(torch.uint8), packed.view(torch.uint8), code_pairs(found.code)]
    return torch.cat(parts, dim=1).view(len(weights), -1)


def code_pairs(code: Tensor) -> Tensor:
    """Join neighbouring groups' codes into bytes.  # [n, groups] -> [n, groups / 2] uint8"""
    return (code[:, ::2] | code[:, 1::2] << 4).to(torch.uint8)
