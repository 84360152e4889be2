"""bitsandbytes' types: NF4 and FP4, four bits with a scale for every 64 weights or so, and int8, with one for each row.

Their tensors (bitsandbytes/functional.py), as the parts of a QTensor:

    nf4, fp4    codes uint8 [rows, cols/2], the first of two weights in the high half of a byte;
                scales float32 [blocks], each for a power of two of weights, blocks running on from row to row
      nested    codes; scales as uint8 [blocks]; and what these stand for: a scale for every 256 of them float32 [n],
                a table float32 [256], and the mean that is added, float32 []
    int8        codes int8 [rows, cols]; the largest magnitude of each row float32 [rows]

    w = level[code] · scale            w = code · largest / 127
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from ...errors import ShapeMismatch
from ..dtype import dtype

# Quantiles of the normal distribution (QLoRA, appendix E), and floats of one sign, two exponent and one mantissa bit
# with a subnormal of 1/16 instead of 1: the tables of bitsandbytes' get_4bit_type.
LEVELS: Final = {
    "nf4": (
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ),
    "fp4": tuple(
        sign * level / 12 for sign in (1, -1) for level in (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
    ),
}  # fmt: skip
NESTED_BLOCK: Final = 256
SMALLEST_BLOCK: Final = 32
# What the native kernels' whole levels are multiples of (kernels/cpu/blocks.h): level · unit, rounded.
UNITS: Final = {"nf4": 112, "fp4": 120}
# Weights unpacked at a time.
_CHUNK: Final = 1 << 20


def scales(parts: tuple[Tensor, ...]) -> Tensor:
    """Return the scales of four-bit weights as float32 [blocks]."""
    if len(parts) == 2:
        return parts[1]
    _, codes, outer, table, mean = parts
    whole = torch.repeat_interleave(outer, NESTED_BLOCK)[: len(codes)]
    return table[codes.long()] * whole + mean


def block_size(num_weights: int, num_blocks: int) -> int:
    """Return how many weights share a scale: the power of two that makes so many blocks of so many weights.

    Raises ShapeMismatch if there is none.
    """
    size = SMALLEST_BLOCK
    while size < num_weights and -(-num_weights // size) != num_blocks:
        size *= 2
    if -(-num_weights // size) != num_blocks:
        raise ShapeMismatch(f"{num_blocks} scales for {num_weights} weights of four bits")
    return size


class FourBits:
    """Weights of four bits."""

    def __init__(self, name: str) -> None:
        self._levels = LEVELS[name]

    def dequantize(self, parts: tuple[Tensor, ...], cols: int, torch_dtype: torch.dtype) -> Tensor:
        """Return the weights [rows, cols]."""
        codes, each = parts[0], scales(parts)
        levels = torch.tensor(self._levels, device=codes.device)
        pairs = torch.stack((levels.repeat_interleave(16), levels.repeat(16)), 1)  # of every byte
        size = block_size(2 * codes.numel(), len(each))
        flat = codes.reshape(-1)
        out = torch.empty(2 * len(flat), dtype=torch_dtype, device=codes.device)
        step = max(size, _CHUNK)
        for first in range(0, len(out), step):
            values = pairs[flat[first // 2 : (first + step) // 2].long()].view(-1)
            own = each[first // size : -(-(first + len(values)) // size)]
            out[first : first + len(values)] = values * own.repeat_interleave(size)[: len(values)]
        return out.view(-1, cols)

    def rows(self, parts: tuple[Tensor, ...], cols: int, start: int, stop: int) -> tuple[Tensor, ...]:
        """Return the parts of some rows; raises ShapeMismatch where a row ends within 32 weights."""
        codes, each = parts[0], scales(parts)
        size = block_size(2 * codes.numel(), len(each))
        first, last = start * cols, stop * cols
        if (first % size or last % size) and stop - start < len(codes):
            if cols % SMALLEST_BLOCK:
                raise ShapeMismatch(f"rows of {cols} weights do not end where a block of {size} does")
            each, size = each.repeat_interleave(size // SMALLEST_BLOCK), SMALLEST_BLOCK
        return codes[start:stop], each[first // size : -(-last // size)]


class Int8:
    """Weights of eight bits."""

    def dequantize(self, parts: tuple[Tensor, ...], cols: int, torch_dtype: torch.dtype) -> Tensor:
        """Return the weights [rows, cols]."""
        codes, largest = parts
        out = torch.empty(codes.shape, dtype=torch_dtype, device=codes.device)
        step = max(1, _CHUNK // max(1, cols))
        for first in range(0, len(codes), step):
            each = largest[first : first + step, None] / 127
            out[first : first + step] = codes[first : first + step] * each
        return out

    def rows(self, parts: tuple[Tensor, ...], cols: int, start: int, stop: int) -> tuple[Tensor, ...]:
        """Return the parts of some rows."""
        return parts[0][start:stop], parts[1][start:stop]


dtype("nf4").made_of(FourBits("nf4"))
dtype("fp4").made_of(FourBits("fp4"))
dtype("int8").made_of(Int8())


# The types that native kernels multiply with, for those that they are stored in.
NATIVE: Final = {"nf4": "nf4", "fp4": "fp4", "int8": "q8_0"}


def native_blocks(name: str, parts: tuple[Tensor, ...], cols: int) -> Tensor:
    """Return weights in the native kernels' blocks, uint8 [rows, bytes per row]; cols must be a multiple of 32.

    nf4, fp4: binary16 scale / UNITS, then 16 bytes with weights i and i + 16 in their low and high halves, as in
    Q4_0. int8: Q8_0 with the same scale in all blocks of a row.
    """
    codes = parts[0]
    rows, blocks = len(codes), cols // SMALLEST_BLOCK
    if name == "int8":
        scale = (parts[1] / 127).half().view(torch.uint8).view(rows, 1, 2).expand(rows, blocks, 2)
        packed = codes.view(torch.uint8).view(rows, blocks, 32)
    else:
        each = scales(parts)
        size = block_size(2 * codes.numel(), len(each))
        each = each.repeat_interleave(size // SMALLEST_BLOCK)[: rows * blocks] / UNITS[name]
        scale = each.half().view(torch.uint8).view(rows, blocks, 2)
        # Bytes 0 to 7 hold weights 0 to 15, bytes 8 to 15 the others.
        first, second = codes.view(rows, blocks, 2, 8, 1).unbind(2)
        even = first >> 4 | second & 0xF0
        odd = first & 15 | second << 4
        packed = torch.cat((even, odd), -1).view(rows, blocks, 16)
    return torch.cat((scale, packed), 2).view(rows, -1)
