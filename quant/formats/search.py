"""Scales for groups of weights, by search: what kernels/cpu/encode_search.h and encode_k.h do, in torch.

For a scale that is guessed, the nearest codes follow, and for those the best scale, by weighted least squares.
Shapes: x and what its errors count, w, are float32 [..., N], groups of N weights; scales are [...].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_TINY = 1e-30
# How often multiples and blocks' scales are improved in turn.
_ROUNDS = 2
# What is better by less than this factor is so by rounding.
_BETTER = 1.000001
# Codes of either sign up to which both signs of a scale are tried.
_FEW = 8
# Guesses of lines at the end, each the best one so far.
_POLISH = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """How a type's groups are searched: codes up to `most`, scales that are multiples up to `levels`.

    Guesses divide a group's range by most, then most + first, most + first + step and so on.
    """

    most: int
    levels: int
    first: float = -0.9
    step: float = 0.1
    tries: int = 19


@dataclass(slots=True)
class Multiples:
    """Scales as whole multiples [blocks, groups] of their block's d [blocks], minimums of m."""

    scale: Tensor
    minimum: Tensor
    d: Tensor
    m: Tensor

    @property
    def scales(self) -> Tensor:
        """The scales themselves."""
        return self.d.unsqueeze(-1) * self.scale

    @property
    def minimums(self) -> Tensor:
        """The minimums themselves."""
        return self.m.unsqueeze(-1) * self.minimum


def weigh(x: Tensor, importance: Tensor, square: Tensor) -> Tensor:
    """Return what errors count: importance · √(mean square + x²), after ggml-quants.c."""
    return importance * (square + x * x).sqrt()


def block_importance(weights: Tensor, importance: Tensor, factor: int) -> Tensor:
    """Return what errors count in blocks of 256, by `factor` times their mean squares.  # [rows, cols] -> the same"""
    blocks = weights.reshape(len(weights), -1, 256)
    square = factor * blocks.square().mean(-1, keepdim=True)
    return weigh(blocks, importance.view(-1, 256), square).view_as(weights)


def weigh_by_size(x: Tensor) -> Tensor:
    """Return what errors count without importance: the weight and its group's typical one together."""
    return x.abs() + x.square().mean(-1, keepdim=True).sqrt()


def inverse(scale: Tensor) -> Tensor:
    """Return 1 / scale, 0 where that is not finite."""
    return torch.where(scale.reciprocal().isfinite(), scale.reciprocal(), 0)


def round_half(x: Tensor) -> Tensor:
    """Round to what a binary16 holds."""
    return x.half().float()


def round_away(x: Tensor) -> Tensor:
    """Round to nearest, halves away from 0, below 2^22."""
    size = x.abs()
    even = size.round()
    return (even + (size - even == 0.5)).copysign(x)


def outermost(blocks: Tensor) -> Tensor:
    """Return the first number of the largest magnitude, 0 without a sign.  # [n, b] -> [n]"""
    found = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)).squeeze(-1)
    return torch.where(found == 0, 0.0, found)


def first_least(blocks: Tensor) -> Tensor:
    """Return the first of the smallest numbers: its 0 may have a sign.  # [n, b] -> [n]"""
    return blocks.gather(-1, blocks.argmin(-1, keepdim=True)).squeeze(-1)


def cut_codes(x: Tensor, scale: Tensor, offset: float, most: int) -> Tensor:
    """Return x / scale + offset towards 0, up to most; 0 where 1 / scale overflows.  # [n, b], [n] -> [n, b]"""
    codes = (x * inverse(scale).unsqueeze(-1) + offset).trunc_().clamp_(max=most)
    broken = (scale != 0) & (inverse(scale) == 0)
    return torch.where(broken.unsqueeze(-1), 0, codes)


def _shares(w: Tensor) -> Tensor:
    total = w.sum(-1, keepdim=True)
    return torch.where(total > _TINY, w / total, 1 / w.shape[-1])


def fit_symmetric(x: Tensor, w: Tensor, most: int) -> Tensor:
    """Find the scales of x = scale · code, with codes from -most to most - 1."""
    top = x.gather(-1, x.abs().argmax(-1, keepdim=True))
    some = top.abs() > _TINY
    u, w = torch.where(some, x / top, 0), _shares(w)
    best, scale = torch.full_like(x[..., 0], -1), torch.zeros_like(x[..., 0])
    tries = [most + 0.1 * t for t in (0, *range(-9, 10))]
    for k in [-k for k in tries] + (tries if most <= _FEW else []):
        code = (u * k).round_().clamp_(-most, most - 1)
        weighted = w * code
        products, squares = (weighted * u).sum(-1), (weighted * code).sum(-1).clamp_(min=_TINY)
        gain = products * products / squares
        scale = torch.where(gain > best * _BETTER, products / squares, scale)
        best = torch.maximum(gain, best)
    return torch.where(some, scale.unsqueeze(-1) * top, 0).squeeze(-1)


def fit_line(x: Tensor, w: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """Find the scales and minimums, not negative, of x = scale · code - minimum, with codes from 0 to most."""
    low = x.amin(-1).clamp_(max=0)
    span = x.amax(-1) - low
    some = span > _TINY
    to_unit = torch.where(some, 1 / span, 0)
    zero, w = -low * to_unit, _shares(w)
    u = (x - low.unsqueeze(-1)) * to_unit.unsqueeze(-1)
    mean = (w * u).sum(-1)
    wu, above = w * (u - mean.unsqueeze(-1)), mean - zero
    best, begin = torch.full_like(mean, -4), torch.zeros_like(mean)
    scale = torch.full_like(mean, 1 / rule.most)
    guesses = [rule.most, *(rule.most + rule.first + rule.step * t for t in range(rule.tries))]
    for guess in [*guesses, *[None] * _POLISH]:
        k = 1 / scale.clamp(min=1e-5) if guess is None else guess / (1 - begin).clamp_(min=1e-3)
        code = ((u - begin.unsqueeze(-1)) * k.unsqueeze(-1)).clamp_(0, rule.most).round_()
        weighted = w * code
        products, sums, squares = (wu * code).sum(-1), weighted.sum(-1), (weighted * code).sum(-1)
        # Codes that are all alike say nothing about the slope.
        variance = squares - sums * sums
        differ = variance > squares * 1e-5
        slope = torch.where(differ, products / variance.clamp(min=_TINY), 0)
        offset = mean - slope * sums
        # Where the line would begin above 0, the best one that begins there.
        pinned = products + above * sums
        steep = pinned / squares.clamp(min=_TINY)
        is_above = offset > zero
        gain = torch.where(differ, slope * products, -4)
        gain = torch.where(is_above, steep * pinned - above * above, gain)
        better = gain > best * _BETTER
        scale = torch.where(better, torch.where(is_above, steep, slope), scale)
        begin = torch.where(better, torch.where(is_above, zero, offset), begin)
        best = torch.maximum(gain, best)
    return torch.where(some, scale * span, 0), torch.where(some, -(begin * span + low), -low)


def line_codes(x: Tensor, scale: Tensor, minimum: Tensor, most: int) -> Tensor:
    """Return the codes nearest to x = scale · code - minimum, as floats; 0 where there is no scale."""
    factor = inverse(scale).unsqueeze(-1)
    return ((x + minimum.unsqueeze(-1)) * factor).clamp_(0, most).round_()


def symmetric_codes(x: Tensor, scale: Tensor, most: int) -> Tensor:
    """Return the codes nearest to x = scale · code, from -most to most - 1, as floats."""
    return (x * inverse(scale).unsqueeze(-1)).clamp_(-most, most - 1).round_()


def _nearby(
    found: Multiples, error: Callable[[Tensor, Tensor], Tensor], least: int, most: int, moves: tuple[int, ...]
) -> None:
    """Move every group's multiples to the neighbours that leave the least error."""
    lowest = torch.full_like(found.scale, torch.inf)
    scale, minimum = found.scale, found.minimum
    for i in (-1, 0, 1):
        for j in moves:
            tried = (found.scale + i).clamp_(least, most), (found.minimum + j).clamp_(least, most)
            left = error(found.d.unsqueeze(-1) * tried[0], found.m.unsqueeze(-1) * tried[1])
            scale = torch.where(left < lowest, tried[0], scale)
            minimum = torch.where(left < lowest, tried[1], minimum)
            lowest = torch.minimum(left, lowest)
    found.scale, found.minimum = scale, minimum


def _fit_multiples(numbers: Tensor, counts: Tensor, least: int, most: int, outer: int) -> Tensor:
    """Find what a block's numbers are to be multiples of, from `least` to `most`.  # [blocks, groups] -> [blocks]

    Guesses: the one of largest magnitude becomes `outer`, or a few percent more or less.
    """
    top = numbers.gather(-1, numbers.abs().argmax(-1, keepdim=True))
    some = top.abs() > _TINY
    best = torch.full_like(top, -1)
    unit = top / outer
    for t in (0, *range(-9, 10)):
        k = torch.where(some, (abs(outer) + 0.1 * t) * (1 if outer > 0 else -1) / top, 0)
        code = (numbers * k).clamp_(least, most).round_()
        products = (counts * code * numbers).sum(-1, keepdim=True)
        squares = (counts * code * code).sum(-1, keepdim=True)
        gain = torch.where(squares > 0, products / squares * products, -2)
        unit = torch.where(gain > best * _BETTER, products / squares, unit)
        best = torch.maximum(gain, best)
    return torch.where(some, round_half(unit), 0).squeeze(-1)


def _counts(x: Tensor, w: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    """Return what the errors of scales count: Σ w·code²."""
    code = (x + minimum.unsqueeze(-1)) * torch.where(scale.abs() > _TINY, 1 / scale, 0).unsqueeze(-1)
    return (w * code * code).sum(-1)


def fit_lines(x: Tensor, w: Tensor, rule: Rule) -> Multiples:
    """Find multiples for blocks of groups with minimums.  # x, w: [blocks, groups, N]"""

    def error(scale: Tensor, minimum: Tensor) -> Tensor:
        code = line_codes(x, scale, minimum, rule.most)
        return (w * (scale.unsqueeze(-1) * code - minimum.unsqueeze(-1) - x).square()).sum(-1)

    scale, minimum = fit_line(x, w, rule)
    counts = _counts(x, w, scale, minimum)
    d = _fit_multiples(scale, counts, 0, rule.levels, rule.levels)
    m = _fit_multiples(minimum, w.sum(-1), 0, rule.levels, rule.levels)
    scale = (scale * inverse(d).unsqueeze(-1)).clamp_(0, rule.levels).round_()
    minimum = (minimum * inverse(m).unsqueeze(-1)).clamp_(0, rule.levels).round_()
    found = Multiples(scale, minimum, d, m)
    for _ in range(_ROUNDS):
        _nearby(found, error, 0, rule.levels, (-1, 0, 1))
        _refit_lines(found, x, w, rule)
    return found


def _refit_lines(found: Multiples, x: Tensor, w: Tensor, rule: Rule) -> None:
    """Fit d and m to all codes of their block, where that has a solution."""
    code = line_codes(x, found.scales, found.minimums, rule.most).double()
    scale, minimum, weighted = found.scale.double(), found.minimum.double(), w * code
    dd = (scale * scale * (weighted * code).sum(-1)).sum(-1)
    dm = -(scale * minimum * weighted.sum(-1)).sum(-1)
    mm = (minimum * minimum * w.double().sum(-1)).sum(-1)
    dx, mx = (scale * (weighted * x).sum(-1)).sum(-1), -(minimum * (w * x).double().sum(-1)).sum(-1)
    determinant = dd * mm - dm * dm
    d, m = (dx * mm - mx * dm) / determinant, (mx * dd - dx * dm) / determinant
    good = (determinant > 1e-6 * dd * mm) & (d > 0) & (m > 0)
    found.d = torch.where(good, round_half(d.float()), found.d)
    found.m = torch.where(good, round_half(m.float()), found.m)


def fit_scales(x: Tensor, w: Tensor, rule: Rule) -> Multiples:
    """Find multiples for blocks of groups without minimums.  # x, w: [blocks, groups, N]"""

    def error(scale: Tensor, minimum: Tensor) -> Tensor:
        return (w * (scale.unsqueeze(-1) * symmetric_codes(x, scale, rule.most) - x).square()).sum(-1)

    scale = fit_symmetric(x, w, rule.most)
    counts = _counts(x, w, scale, torch.zeros_like(scale))
    d = _fit_multiples(scale, counts, -rule.levels, rule.levels - 1, -rule.levels)
    scale = (scale * inverse(d).unsqueeze(-1)).clamp_(-rule.levels, rule.levels - 1).round_()
    found = Multiples(scale, torch.zeros_like(scale), d, torch.zeros_like(d))
    for _ in range(_ROUNDS):
        _nearby(found, error, -rule.levels, rule.levels - 1, (0,))
        code = symmetric_codes(x, found.scales, rule.most).double()
        squares = (found.scale.double().square() * (w * code * code).sum(-1)).sum(-1)
        products = (found.scale.double() * (w * code * x).sum(-1)).sum(-1)
        found.d = torch.where(squares > 0, round_half((products / squares).float()), found.d)
    return found


def spread(weights: Tensor, importance: Tensor | None, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give blocks of 32 codes from 0 for the least to `most` for the largest weight; with importance, search.

    Returns scales [n] and least values [n], to be rounded to float16, and codes [n, 32].
    """
    blocks = weights.reshape(-1, 32)
    if importance is None:
        low = first_least(blocks)
        scale = (blocks.amax(-1) - low) / most
        return scale, low, cut_codes(blocks - low.unsqueeze(-1), scale, 0.5, most)
    counts = weigh(weights, importance, weights.square().mean(-1, keepdim=True)).view(-1, 32)
    scale, minimum = fit_line(blocks, counts, Rule(most, 0, step=0.05, tries=37))
    return scale, -minimum, line_codes(blocks, round_half(scale), -round_half(-minimum), most)
