"""The search for points of a codebook, in torch: what kernels/cpu/encode_iq_grid.h does, over all points at once.

A part of a group, 4 or 8 weights, becomes a point g times the group's scale s. Signs taken away, its error is
    Σ w (x - s g)²  =  Σ w x²  +  s (s q + p),     p = -2 Σ w x g,   q = Σ w g²
so each point is a line in s. A short list keeps the lowest line at each of a range of scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .importance import Counts, count_errors, unit_blocks

# Scales that are tried at once: as many as there are codes of a group's scale.
_SCALES = 16
# Scales by which a group's largest weight is the largest value, or the smallest one, of the codebook.
_USUAL, _FLAT = (0.6, 1.15), (0.7, 1.3)
# The share of the error by which d is larger than what makes it least, which makes weights too small.
_GIVEN_BACK = 0.25
# Blocks at a time: all lines of a part are in memory at once.
_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Codebook:
    """What a type has: points of `dims` values, groups of weights, signs of even parity, d times `unit` as scale."""

    name: str
    dims: int
    group: int
    even: bool
    unit: float


@dataclass(frozen=True, slots=True)
class Found:
    """Blocks of 256: d [n, 1] as float16, codes of groups, points of parts, bits of signs [n, 32], as int32."""

    d: Tensor
    code: Tensor
    points: Tensor
    signs: Tensor


@dataclass(slots=True)
class _Lists:
    """Short lists of all parts: [..., parts of a group, points of the list]."""

    point: Tensor
    p: Tensor
    q: Tensor
    full_p: Tensor
    full_q: Tensor

    def at(self, scales: Tensor) -> tuple[Tensor, Tensor]:
        """Return full p and q, summed over a group's parts, of the best points.  # [..., s] -> 2 x [..., s]"""
        value = scales[..., None, :, None] * self.q.unsqueeze(-2) + self.p.unsqueeze(-2)
        best = value.argmin(-1)  # [..., parts, s]
        return self.full_p.gather(-1, best).sum(-2), self.full_q.gather(-1, best).sum(-2)

    def best(self, scale: Tensor) -> Tensor:
        """Return the best point of every part.  # [...] -> [..., parts]"""
        value = scale[..., None, None] * self.q + self.p
        return self.point.gather(-1, value.argmin(-1, keepdim=True)).squeeze(-1)

    def choose(self, mask: Tensor, other: _Lists) -> None:
        """Take the groups of another's where the mask is set."""
        for name in ("point", "p", "q", "full_p", "full_q"):
            setattr(self, name, torch.where(mask[..., None, None], getattr(other, name), getattr(self, name)))


@cache
def grid(name: str) -> Tensor:
    """Return the points of a type's codebook, as the gguf package has them.  # [points, dims]"""
    import gguf

    quant = getattr(gguf.quants, name.upper())
    quant.init_grid()
    return torch.from_numpy(quant.grid.reshape(quant.grid.shape[-2:]).copy()).float()


def search(weights: Tensor, importance: Tensor | None, book: Codebook) -> Found:
    """Find scales and points by weighted squared error.  # [rows, cols], [cols] -> blocks of 256"""
    unit = unit_blocks(weights, 256)
    counts = count_errors(unit.u, importance)
    x, signs = _take_signs(unit.u, counts.points, book.even)
    parts = []
    for first in range(0, len(x), _BLOCKS):
        rows = slice(first, first + _BLOCKS)
        parts.append(_search(x[rows], counts.rows(rows), unit.peak[rows], book))
    found = [torch.cat(columns) for columns in zip(*parts, strict=True)]
    is_zero = found[0].float() == 0
    code, points, signs = (torch.where(is_zero, 0, t).int() for t in (found[1], found[2], signs))
    return Found(torch.where(is_zero, 0, found[0]), code, points, signs)


def _take_signs(u: Tensor, w: Tensor, even: bool) -> tuple[Tensor, Tensor]:
    """Return magnitudes, one of eight negative where its sign had to be changed, and eight signs in an integer."""
    minus, x = (u < 0).view(-1, 32, 8), u.abs().view(-1, 32, 8)
    if even:
        cheapest = (w.view(-1, 32, 8) * x).argmin(-1, keepdim=True)
        flip = torch.zeros_like(minus).scatter_(-1, cheapest, minus.sum(-1, keepdim=True) % 2 == 1)
        x, minus = torch.where(flip, -x, x), minus ^ flip
    bits = 1 << torch.arange(8, device=u.device)
    return x.view_as(u), (minus * bits).sum(-1)


def _search(x: Tensor, counts: Counts, peak: Tensor, book: Codebook) -> tuple[Tensor, Tensor, Tensor]:
    values = grid(book.name).to(x.device)
    groups = x.view(len(x), -1, book.group)
    most = groups.amax(-1).clamp_(min=1e-6)
    scale, gain, lists = _fit(x, counts, book, most / values.max(), _USUAL)
    flat = 2 * groups.square().sum(-1) >= most * most * book.group
    if bool(flat.any()):
        # Scales for flat groups are larger than others by far, so that a block's d hardly serves both.
        other, more, others = _fit(x, counts, book, most / values.min(), _FLAT)
        energy = (counts.scales * x.square()).view_as(groups).sum(-1)
        left = energy - gain
        flat = flat & (left >= 1e-3 * energy) & (2 * (energy - more) <= left)
        scale = torch.where(flat, other, scale)
        lists.choose(flat, others)
    d = _round_scales(scale, lists, peak, book)
    code, error, _ = _choose_codes(lists, torch.where(peak > 0, d.float() / peak, 0), book)
    final = d.float() / peak.clamp(min=1e-12) * book.unit * (2 * code + 1)
    energy = (counts.scales * x.square()).sum(-1, keepdim=True)
    gain = 1 + _GIVEN_BACK * (1 + error / energy.clamp(min=1e-30))
    return (d.float() * gain).half(), code, lists.best(final).flatten(1)


def _fit(
    x: Tensor, counts: Counts, book: Codebook, unit: Tensor, ends: tuple[float, float]
) -> tuple[Tensor, Tensor, _Lists]:
    """Find the best scale of every group in a range, how much of Σ w x² it saves, and the points of the range."""
    least, most = ends[0] * unit, ends[1] * unit
    steps = torch.arange(_SCALES + 2, device=x.device) / (_SCALES + 1)
    lists = _short_lists(x, counts, book, least.unsqueeze(-1) + (most - least).unsqueeze(-1) * steps)
    middle, step = 0.5 * (least + most), (most - least) / (_SCALES - 1)
    best, scale = torch.zeros_like(middle), torch.zeros_like(middle)
    for _ in range(2):
        offsets = torch.arange(_SCALES, device=x.device) - 0.5 * (_SCALES - 1)
        p, q = lists.at(middle.unsqueeze(-1) + step.unsqueeze(-1) * offsets)
        gains = torch.where((p < 0) & (q > 0), 0.25 * p * p / q, 0)
        gain, at = gains.max(-1)
        found = (-0.5 * p / q).gather(-1, at.unsqueeze(-1)).squeeze(-1)
        scale = torch.where(gain > best, found, scale)
        best = torch.maximum(gain, best)
        middle, step = scale, step * 2 / (_SCALES - 1)
    return scale, best, lists


def _short_lists(x: Tensor, counts: Counts, book: Codebook, scales: Tensor) -> _Lists:
    """Return each part's best points at some scales of its group.  # scales: [blocks, groups, s]"""
    values = grid(book.name).to(x.device)
    shape = (len(x), -1, book.group // book.dims, book.dims)
    x, w, full = (t.reshape(shape) for t in (x, counts.points, counts.scales))
    p, q = -2 * (w * x) @ values.T, w @ values.T.square()
    best = [(p + s[..., None, None] * q).argmin(-1) for s in scales.unbind(-1)]
    point = torch.stack(best, dim=-1)
    chosen = values[point]
    full_p = -2 * ((full * x).unsqueeze(-2) * chosen).sum(-1)
    full_q = (full.unsqueeze(-2) * chosen.square()).sum(-1)
    return _Lists(point, p.gather(-1, point), q.gather(-1, point), full_p, full_q)


def _choose_codes(lists: _Lists, d: Tensor, book: Codebook) -> tuple[Tensor, Tensor, Tensor]:
    """Return groups' codes under one d, their error beyond Σ w x², and the d that serves them best.  # d: [n, 1]"""
    factors = book.unit * (2 * torch.arange(_SCALES, device=d.device) + 1)
    scales = (d * factors).unsqueeze(1).expand(-1, lists.p.shape[1], -1)
    p, q = lists.at(scales)
    errors = scales * (scales * q + p)
    error, code = errors.min(-1, keepdim=True)
    factor = factors[code]
    over, under = (factor * p.gather(-1, code)).sum(1), (factor * factor * q.gather(-1, code)).sum(1)
    return code.squeeze(-1), error.sum(1), torch.where(under > 0, -0.5 * over / under, d)


def _round_scales(scale: Tensor, lists: _Lists, peak: Tensor, book: Codebook) -> Tensor:
    """Return d as float16: from the largest scale, improved with the codes by turns.  # [n, groups] -> [n, 1]"""
    d = scale.amax(-1, keepdim=True) / (31 * book.unit)
    best, lowest = d, torch.full_like(d, torch.inf)
    for _ in range(3):
        _, error, following = _choose_codes(lists, d, book)
        best = torch.where(error < lowest, following, best)
        lowest, d = torch.minimum(error, lowest), following
    return (best * peak).half()
