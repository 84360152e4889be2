"""Pieces that several block formats share, taken apart and put together: halves, nibbles, fields, 6-bit scales."""

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


def put_half(x: Tensor) -> Tensor:
    """Write numbers as float16, rounded to nearest even.  # [n] -> [n, 2] uint8"""
    return x.half().view(torch.uint8).view(-1, 2)


def put_nibbles(codes: Tensor) -> Tensor:
    """Join the two halves of the last dimension into the low and high halves of bytes.  # [..., 2 b] -> [..., b]"""
    low, high = codes.to(torch.uint8).chunk(2, -1)
    return (low & 15) | (high << 4)


def put_pairs(codes: Tensor) -> Tensor:
    """Join four runs of 2-bit codes into bytes, the first one lowest.  # [..., 4 b] -> [..., b]"""
    runs = [(run & 3) << 2 * i for i, run in enumerate(codes.to(torch.uint8).chunk(4, -1))]
    return runs[0] | runs[1] | runs[2] | runs[3]


def put_bits(codes: Tensor) -> Tensor:
    """Join eight runs of bits into bytes, the first one lowest.  # [..., 8 b] -> [..., b]"""
    joined = torch.zeros_like(codes[..., : codes.shape[-1] // 8], dtype=torch.uint8)
    for i, run in enumerate(codes.to(torch.uint8).chunk(8, -1)):
        joined |= (run & 1) << i
    return joined


def put_fifth_bits(codes: Tensor) -> Tensor:
    """Write the fifth bits of the 32 codes of q5_0 and q5_1.  # [n, 32] -> [n, 4]"""
    return put_bits((codes.to(torch.uint8) >> 4).view(-1, 4, 8).transpose(1, 2).flatten(1))


def put_six_bit_scales(scales: Tensor, mins: Tensor) -> Tensor:
    """Pack what `six_bit_scales` unpacks.  # 2 x [n, 8] -> [n, 12] uint8"""
    scales, mins = scales.to(torch.uint8), mins.to(torch.uint8)
    low = (scales[:, 4:] & 15) | (mins[:, 4:] & 15) << 4
    return torch.cat(
        [scales[:, :4] | scales[:, 4:] >> 4 << 6, mins[:, :4] | mins[:, 4:] >> 4 << 6, low], dim=1
    )
