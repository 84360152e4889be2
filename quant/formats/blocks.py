"""Pieces that several block formats share: half-precision scales, nibbles, two-bit fields, 6-bit scales."""

from __future__ import annotations

import torch
from torch import Tensor


def half(blocks: Tensor, start: int) -> Tensor:
    """Read the float16 at byte `start` of each block as float32.  # [n, nbytes] -> [n, 1]"""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def nibbles(packed: Tensor) -> Tensor:
    """Split bytes into their low, then their high halves.  # [..., b] uint8 -> [..., 2, b] uint8"""
    out = torch.empty((*packed.shape[:-1], 2, packed.shape[-1]), dtype=torch.uint8, device=packed.device)
    torch.bitwise_and(packed, 15, out=out[..., 0, :])
    torch.bitwise_right_shift(packed, 4, out=out[..., 1, :])
    return out


def pairs(packed: Tensor) -> Tensor:
    """Split bytes into four 2-bit fields, lowest first.  # [..., b] uint8 -> [..., 4, b] uint8"""
    out = torch.empty((*packed.shape[:-1], 4, packed.shape[-1]), dtype=torch.uint8, device=packed.device)
    for i in range(4):
        torch.bitwise_right_shift(packed, 2 * i, out=out[..., i, :])
    return out.bitwise_and_(3)


def bits(packed: Tensor) -> Tensor:
    """Split bytes into their 8 bits, lowest first.  # [..., b] uint8 -> [..., 8, b] uint8 of 0 and 1"""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device).unsqueeze(-1)
    return torch.bitwise_right_shift(packed.unsqueeze(-2), shifts).bitwise_and_(1)


def five_bits(high: Tensor, low: Tensor) -> Tensor:
    """Join the 32 upper bits and 32 nibbles of q5_0 and q5_1.  # [n, 4], [n, 16] uint8 -> [n, 32] uint8"""
    upper = bits(high).transpose(1, 2).flatten(1)
    return upper.bitwise_left_shift_(4).bitwise_or_(nibbles(low).flatten(1))


def look_up(levels: tuple[int, ...], indices: Tensor) -> Tensor:
    """Replace each index by its level.  # uint8 of any shape -> float32 of that shape"""
    table = torch.tensor(levels, dtype=torch.float32, device=indices.device)
    return table.index_select(0, indices.flatten().int()).view(indices.shape)


def six_bit_scales(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Unpack the 8 scales and 8 minimums of q4_k and q5_k.  # [n, 12] uint8 -> 2 x [n, 8] uint8

    Four bytes hold scales 0-3, four minimums 0-3, four the low halves of numbers 4-7, whose upper two
    bits sit on top of the first eight bytes.
    """
    scale, minimum, low = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat([scale & 63, (low & 15) | ((scale >> 2) & 48)], dim=1)
    mins = torch.cat([minimum & 63, (low >> 4) | ((minimum >> 2) & 48)], dim=1)
    return scales, mins
