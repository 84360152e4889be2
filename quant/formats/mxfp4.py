"""MXFP4: 32 four-bit floats (sign, 2 bits of exponent, 1 of fraction) that share a power of two."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import dtype
from .blocks import look_up, nibbles, put_nibbles

# Twice the values of E2M1, so that they are whole; the shared power is halved to match.
LEVELS = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
# Half way between levels that follow one another; a number there takes the smaller one.
_BETWEEN = (0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0)


@dtype("mxfp4").dequantizer
def dequantize(blocks: Tensor) -> Tensor:
    """Return power times value.  # [n, 17] uint8 -> [n, 32]"""
    return look_up(LEVELS, nibbles(blocks[:, 1:]).flatten(1)).mul_(_half_power(blocks[:, :1]))


@dtype("mxfp4").quantizer
def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
    """Put the largest weight into the highest binade, from 4 to 8 powers, bit for bit as ggml-quants.c."""
    blocks = weights.reshape(-1, 32)
    largest = blocks.abs().amax(-1, keepdim=True)
    exponent = torch.where(largest > 0, largest.log2().floor() + 125, 0).clamp_(0, 254).to(torch.uint8)
    power = _half_power(exponent)
    between = torch.tensor(_BETWEEN, device=weights.device)
    codes = torch.bucketize((blocks.abs() / power).contiguous(), between).to(torch.uint8)
    codes = torch.where((blocks < 0) & (codes > 0), codes + 8, codes)
    return torch.cat([exponent, put_nibbles(codes)], dim=1).view(len(weights), -1)


def _half_power(exponent: Tensor) -> Tensor:
    """Return 2 ** (exponent - 128), built from its bits.  # uint8 -> float32"""
    wide = exponent.to(torch.int32)
    normal = (wide - 1) << 23
    subnormal = torch.full_like(wide, 1 << 21) << wide.clamp(max=1)  # 2 ** -128 and 2 ** -127
    return torch.where(wide < 2, subnormal, normal).view(torch.float32)
