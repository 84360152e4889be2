"""What errors weigh in the types with codebooks or uneven levels, in torch: kernels/cpu/encode_iq_weights.h."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Weights below this are 0: their scale would be less than float16 holds.
_LEAST_MAGNITUDE = 1e-12


@dataclass(frozen=True, slots=True)
class Unit:
    """Blocks over their largest magnitude: u [n, block], peak [n, 1], which is 0 where all are too small."""

    u: Tensor
    peak: Tensor


@dataclass(frozen=True, slots=True)
class Counts:
    """How much errors count: for scales of codebooks, for their points, for scales of uneven levels.  # [n, block]"""

    scales: Tensor
    points: Tensor
    levels: Tensor

    def rows(self, rows: slice) -> Counts:
        """Return those of some blocks."""
        return Counts(self.scales[rows], self.points[rows], self.levels[rows])


def unit_blocks(weights: Tensor, block: int) -> Unit:
    """Divide every block by its largest magnitude.  # [rows, cols] -> [n, block], [n, 1]"""
    blocks = weights.reshape(-1, block)
    peak = blocks.abs().amax(-1, keepdim=True)
    some = peak > _LEAST_MAGNITUDE
    return Unit(torch.where(some, blocks / peak, 0), torch.where(some, peak, 0))


def count_errors(u: Tensor, importance: Tensor | None) -> Counts:
    """Weigh errors by importance [cols], and a little more those of large weights (llama.cpp's rule).

    Where scales are chosen no column counts less than a fiftieth of its block's mean. Points are chosen by the root
    of the importance: columns of little importance would otherwise be thrown away for the others. Levels follow from
    scales alone, and the power 3/4 leaves their plain error where it is without any importance.
    """
    sizes = (2 * u.square().mean(-1, keepdim=True) + u.square()).sqrt_()
    shares = torch.ones_like(u)
    if importance is not None:
        parts = importance.view(-1, u.shape[-1])
        most = parts.amax(-1, keepdim=True)
        parts = torch.where(most > 0, parts / most, 1)
        shares = parts.repeat(len(u) // len(parts), 1)
    half = shares.sqrt()
    return Counts(sizes * _at_least(shares), sizes * (half + 0.05), sizes * _at_least(half * half.sqrt()))


def _at_least(shares: Tensor) -> Tensor:
    return shares + 0.02 * shares.mean(-1, keepdim=True)
