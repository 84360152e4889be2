"""The table of filters, in llama.cpp's order and with its semantics; each narrows or scales the choice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ...kernels.dispatch import find
from .params import SamplingParams

# Below this a temperature is nothing in float32, and nothing divided by it is no number.
_COLDEST = 1e-30


@dataclass(frozen=True, slots=True)
class Candidates:
    """The tokens that may still be drawn: float32 logits [n] and their ids [n].

    ids None: the whole vocabulary, where a logit's position is its id.
    is_sorted: highest logit first, of equal logits the lowest id first.
    """

    logits: Tensor
    ids: Tensor | None = None
    is_sorted: bool = False

    def keep(self, count: int) -> Candidates:
        """Keep the first `count` candidates."""
        return Candidates(self.logits[:count], None if self.ids is None else self.ids[:count], self.is_sorted)

    def pick(self, where: Tensor, *, is_sorted: bool) -> Candidates:
        """Keep the candidates at the positions `where` [m], in that order."""
        ids = where if self.ids is None else self.ids[where]
        return Candidates(self.logits[where], ids, is_sorted)

    def on_host(self) -> Candidates:
        """Bring the candidates to the CPU, where many small steps cost less."""
        ids = None if self.ids is None else self.ids.cpu()
        return Candidates(self.logits.cpu(), ids, self.is_sorted)

    def token_at(self, position: int) -> int:
        """Return the id of the candidate at a position."""
        return position if self.ids is None else int(self.ids[position])


@dataclass(frozen=True, slots=True)
class Filter:
    """One row of the table: a filter runs only where `is_neutral` is false."""

    name: str
    apply: Callable[[Candidates, SamplingParams], Candidates]
    is_neutral: Callable[[SamplingParams], bool]


def add_bias(logits: Tensor, ids: Tensor, bias: Tensor) -> Tensor:
    """Add bias [n] to the logits [vocab] of the tokens ids [n], in place."""
    return logits.index_add_(0, ids, bias)


def penalize(logits: Tensor, ids: Tensor, counts: Tensor, params: SamplingParams) -> Tensor:
    """Lower the logits [vocab] of the tokens ids [n], which occurred counts [n] times in the window, in place.

    Negative logits are multiplied by the repeat penalty, positive ones divided, so that both fall.
    """
    old = logits[ids]
    repeated = torch.where(old > 0, old / params.repeat_penalty, old * params.repeat_penalty)
    new = repeated - counts * params.frequency_penalty - params.presence_penalty
    return logits.index_copy_(0, ids, new)


def highest(candidates: Candidates, count: int) -> Candidates:
    """Return the `count` highest candidates, sorted; of equal logits the lowest ids."""
    if candidates.is_sorted:
        return candidates.keep(count)
    logits = candidates.logits
    where, values = find("highest", device=logits.device.type)(logits, count)
    ids = where if candidates.ids is None else candidates.ids[where]
    return Candidates(values, ids, is_sorted=True).on_host()


def top_k(candidates: Candidates, params: SamplingParams) -> Candidates:
    """Keep the k highest candidates."""
    return highest(candidates, params.top_k)


def typical_p(candidates: Candidates, params: SamplingParams) -> Candidates:
    """Keep those whose surprise is closest to the entropy, until more than p is held (arXiv 2202.00666)."""
    probs = candidates.logits.softmax(-1)
    surprise = -probs.log()
    # A candidate of no probability adds nothing to the entropy; 0 * inf would make it NaN.
    entropy = torch.where(probs > 0, probs * surprise, 0.0).sum()
    order = (surprise - entropy).abs().argsort(stable=True)
    held = probs[order].cumsum(-1)
    return candidates.pick(order[: int((held <= params.typical_p).sum()) + 1], is_sorted=False)


def top_p(candidates: Candidates, params: SamplingParams) -> Candidates:
    """Keep the fewest of the highest candidates that together hold at least p."""
    candidates = candidates.on_host()
    logits = candidates.logits
    total = float(logits.double().logsumexp(-1))
    if not candidates.is_sorted:
        # Tokens of less than (1 - p) / n each hold less than 1 - p together: they are never needed, nor sorted.
        # One nat below, so that rounding does not matter.
        floor = total + math.log((1 - params.top_p) / logits.shape[0]) - 1
        candidates = candidates.pick((logits >= floor).nonzero()[:, 0], is_sorted=False)
        candidates = highest(candidates, candidates.logits.shape[0])
    held = (candidates.logits.double() - total).exp().float().cumsum(-1)
    return candidates.keep(int((held < params.top_p).sum()) + 1)


def min_p(candidates: Candidates, params: SamplingParams) -> Candidates:
    """Keep the candidates that are at least p times as likely as the most likely one."""
    logits = candidates.logits
    if candidates.is_sorted:
        return candidates.keep(int((logits >= logits[0] + math.log(params.min_p)).sum()))
    return candidates.pick((logits >= logits.max() + math.log(params.min_p)).nonzero()[:, 0], is_sorted=False)


def temperature(candidates: Candidates, params: SamplingParams) -> Candidates:
    """Divide the logits by the temperature, relative to the highest so that none overflows."""
    logits = candidates.logits
    peak = logits[0] if candidates.is_sorted else logits.max()
    scaled = (logits - peak) / max(params.temperature, _COLDEST)
    return Candidates(scaled, candidates.ids, candidates.is_sorted)


DEFAULT_ORDER: Final[tuple[Filter, ...]] = (
    Filter("top_k", top_k, lambda p: p.top_k == 0),
    Filter("typical_p", typical_p, lambda p: p.typical_p >= 1),
    Filter("top_p", top_p, lambda p: p.top_p >= 1),
    Filter("min_p", min_p, lambda p: p.min_p <= 0),
    Filter("temperature", temperature, lambda p: p.temperature == 1),
)


def apply_filters(
    candidates: Candidates, params: SamplingParams, order: tuple[Filter, ...] = DEFAULT_ORDER
) -> Candidates:
    """Run every filter of the table that departs from neutral."""
    for step in order:
        if not step.is_neutral(params):
            candidates = step.apply(candidates, params)
    return candidates
