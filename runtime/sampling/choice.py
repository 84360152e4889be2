"""How one of the candidates is taken: by its probability, by mirostat 1 or 2, or by adaptive-p.

A choice is handed a number from 0 to 1 and returns a place. Mirostat and adaptive-p learn from what they took, once
the sequence has accepted it; a token that came otherwise teaches them nothing.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import numpy as np

from .candidates import Candidates, Floats, highest, log_total, only_highest, softmax
from .params import SamplingParams

# From how many of the likeliest tokens mirostat 1 estimates the slope of the distribution.
_SLOPE_TOKENS: Final = 100
# How many weights are summed at once where there are many.
_RUN: Final = 512
# Adaptive-p's curve: its width in probability, its height, and how steeply it falls.
_WIDTH, _PEAK, _SHARPNESS = 0.3, 5.0, 10.0


class Choice(Protocol):
    """Takes one candidate, and may learn from what was accepted."""

    def take(self, candidates: Candidates, uniform: float) -> int:
        """Return the id of the candidate that a number from [0, 1) stands for."""

    def accept(self, token: int) -> None:
        """Note a token that the sequence has taken."""


class Dist:
    """Takes by probability."""

    def take(self, candidates: Candidates, uniform: float) -> int:
        """Return the id of the candidate that a number from [0, 1) stands for."""
        return candidates.token_at(inverse_cdf(candidates.logits, uniform))

    def accept(self, token: int) -> None:
        """A constant rule needs no history."""


class Mirostat:
    """Keeps the surprise of the text near tau: mu, the surprise allowed, follows the error (arXiv 2007.14966)."""

    def __init__(self, params: SamplingParams) -> None:
        self.mu = 2 * params.mirostat_tau
        self._params = params
        self._pending: tuple[int, float] | None = None

    def take(self, candidates: Candidates, uniform: float) -> int:
        """Return the id of a candidate, drawn by probability from those that are not too surprising."""
        cut = cut_by_slope if self._params.mirostat == 1 else cut_by_surprise
        left = cut(candidates, self.mu)
        place = inverse_cdf(left.logits, uniform)
        surprise = (log_total(left) - float(left.logits[place])) / math.log(2)
        token = left.token_at(place)
        self._pending = (token, surprise)
        return token

    def accept(self, token: int) -> None:
        """Correct mu by the surprise of a token that was taken here."""
        if self._pending is not None and self._pending[0] == token:
            self.mu -= self._params.mirostat_eta * (self._pending[1] - self._params.mirostat_tau)
        self._pending = None


def cut_by_slope(candidates: Candidates, mu: float) -> Candidates:
    """Keep as many of the highest as mirostat 1 expects to have a surprise of mu, in bits, under Zipf's law."""
    size = len(candidates.logits)
    head = highest(candidates, _SLOPE_TOKENS)
    logits = head.logits[head.logits > -math.inf].astype(np.float64)
    if len(logits) < 2:
        return head.keep(1)
    ranks = np.arange(1, len(logits))
    steps = np.log((ranks + 1) / ranks)
    slope = float((steps * (logits[:-1] - logits[1:])).sum() / (steps * steps).sum())
    excess = slope - 1
    # (excess * 2^mu / (1 - size^-excess)) ^ (1 / slope), by logarithms; at an excess of 0 its limit.
    spread = -math.expm1(-excess * math.log(size))
    ratio = excess / spread if spread else 1 / math.log(size)
    log_count = (math.log(ratio) + mu * math.log(2)) / max(slope, 1e-9)
    count = size if log_count >= math.log(size) else max(int(math.exp(log_count)), 1)
    return only_highest(candidates, count)


def cut_by_surprise(candidates: Candidates, mu: float) -> Candidates:
    """Keep the candidates whose surprise is at most mu bits, and always the likeliest: mirostat 2."""
    floor = log_total(candidates) - mu * math.log(2)
    where = np.flatnonzero(candidates.logits >= floor)
    return candidates.pick(where, is_sorted=candidates.is_sorted) if len(where) else highest(candidates, 1)


class AdaptiveP:
    """Prefers tokens near a probability, and keeps the average of what it took there.

    (github.com/ggml-org/llama.cpp/pull/17927)
    """

    def __init__(self, params: SamplingParams) -> None:
        self._target = params.adaptive_target
        self._decay = min(params.adaptive_decay, 0.99)
        # As if the target had been met for all time.
        self._weight = 1 / (1 - self._decay)
        self._sum = self._target * self._weight
        self._pending: tuple[int, float] | None = None

    @property
    def aim(self) -> float:
        """The probability to aim at now: off the target by as much as the past was, to the other side."""
        return min(max(2 * self._target - self._sum / self._weight, 0.0), 1.0)

    def take(self, candidates: Candidates, uniform: float) -> int:
        """Return the id of a candidate, drawn from a distribution that peaks at the aim."""
        probs = softmax(candidates)
        place = inverse_cdf(prefer_near(candidates.logits, probs, self.aim), uniform)
        token = candidates.token_at(place)
        self._pending = (token, float(probs[place]))
        return token

    def accept(self, token: int) -> None:
        """Note the probability of a token that was taken here."""
        if self._pending is not None and self._pending[0] == token:
            self._sum = self._pending[1] + self._decay * self._sum
            self._weight = 1 + self._decay * self._weight
        self._pending = None


def prefer_near(logits: Floats, probs: Floats, aim: float) -> Floats:
    """Return logits [n] that are highest where the probabilities [n] are near the aim; banned ones stay banned."""
    distance = np.abs(probs - probs.dtype.type(aim)) / probs.dtype.type(_WIDTH)
    shaped = _PEAK - _SHARPNESS * distance * distance / (1 + distance)
    return np.where(logits > -math.inf, shaped, -math.inf).astype(probs.dtype)


def inverse_cdf(logits: Floats, uniform: float) -> int:
    """Return the place in logits [n] where the cumulative probability passes `uniform`, in [0, 1)."""
    weights = np.subtract(logits, logits.max(), dtype=np.float64)
    np.exp(weights, out=weights)
    if len(weights) <= _RUN:
        # The sum is not 1. What lies beyond the target has a probability: no banned token wins.
        held = weights.cumsum()
        return int(held.searchsorted(uniform * held[-1], side="right"))
    # Running sums of a whole vocabulary take longer than all else: first find the run, then the place in it.
    held = np.add.reduceat(weights, np.arange(0, len(weights), _RUN)).cumsum()
    target = uniform * held[-1]
    run = int(held.searchsorted(target, side="right"))
    some = weights[run * _RUN : (run + 1) * _RUN]
    place = some.cumsum().searchsorted(target - held[run - 1] if run else target, side="right")
    # Both sums are rounded, so that the target may lie beyond this one.
    return run * _RUN + min(int(place), int(np.flatnonzero(some)[-1]))


def choice_for(params: SamplingParams) -> Choice:
    """Return the choice that the parameters ask for."""
    if params.mirostat:
        return Mirostat(params)
    if params.adaptive_target >= 0 and "adaptive_p" in params.samplers:
        return AdaptiveP(params)
    return Dist()
