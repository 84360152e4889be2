"""How far one model's predictions are from another's, token by token and summed up as llama-perplexity does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

# Rows of logits that are worked on at once.
_ROWS = 16
_FEW = 10  # tokens, below which a spread says nothing

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    error: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the values of all tokens lie: percentiles by their shares."""

    minimum: float
    p01: float
    p05: float
    median: float
    p95: float
    p99: float
    p999: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a model predicts worse than a base model, over `tokens` tokens of a text.

    ppl_base, ppl: perplexities; log_ratio: ln(ppl / ppl_base); correlation: between both models' losses;
    kl: the divergence D(base || other) in nats, kl_spread: of single tokens;
    delta_p: the change of the right token's probability, delta_p_rms: its root mean square;
    same_top: the share of tokens where both models find the same one likeliest.
    """

    tokens: int
    ppl_base: Estimate
    ppl: Estimate
    log_ratio: Estimate
    correlation: float
    kl: Estimate
    kl_spread: Spread
    delta_p: Estimate
    delta_p_rms: Estimate
    delta_p_spread: Spread
    same_top: Estimate


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Both models' -log p of each token that came, D(base || other), and whether their likeliest tokens agree."""

    nll_base: Array
    nll: Array
    kl: Array
    same_top: Array

    @property
    def delta_p(self) -> Array:
        """The change of the probability of each token that came."""
        return np.exp(-self.nll) - np.exp(-self.nll_base)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """A model's predictions at n places.

    logits: [n, vocab]; size: the logarithm of each row's sum of exponentials [n]; nll: -log p of the tokens that came
    [n]; top: the likeliest tokens [n].
    """

    logits: Tensor
    size: Tensor
    nll: Tensor
    top: Tensor

    @classmethod
    def of(cls, logits: Tensor, targets: Sequence[int]) -> Predictions:
        """Look at logits [n, vocab], float32, before tokens `targets` [n]."""
        chosen = logits.gather(1, torch.tensor(targets, device=logits.device)[:, None])[:, 0]
        size = _sizes(logits)
        return cls(logits, size, size - chosen, logits.argmax(-1))


class PredictionFile:
    """Predictions of one model put aside, so that the next can be loaded in its place.

    Log probabilities are stored as float16: what is likely keeps the most digits, so that a divergence changes by less
    than 2⁻¹² of the entropy. Losses and likeliest tokens are kept exactly.
    """

    def __init__(self, file: BinaryIO, vocab_size: int) -> None:
        self._file = file
        self._vocab_size = vocab_size
        self._kept: list[tuple[Tensor, Tensor]] = []

    @staticmethod
    def nbytes(rows: int, vocab_size: int) -> int:
        """Return how much room the predictions at `rows` places take."""
        return 2 * rows * vocab_size

    def append(self, predictions: Predictions) -> None:
        """Put the next predictions aside; raises OSError if there is no room."""
        for part, size in _pieces(predictions):
            self._file.write((part - size[:, None]).half().numpy().tobytes())
        self._kept.append((predictions.nll, predictions.top))

    def rewind(self) -> None:
        """Begin to read."""
        self._file.seek(0)
        self._kept.reverse()

    def next(self) -> Predictions:
        """Read the next predictions."""
        nll, top = self._kept.pop()
        data = bytearray(self._file.read(self.nbytes(len(nll), self._vocab_size)))
        logits = torch.frombuffer(data, dtype=torch.float16).view(len(nll), self._vocab_size)
        return Predictions(logits, _sizes(logits), nll, top)


def score(base: Predictions, other: Predictions) -> Scores:
    """Compare two models' predictions at the same places."""
    pairs = zip(_pieces(base), _pieces(other), strict=True)
    kl = torch.cat([_divergence(a, b) for a, b in pairs])
    same = base.top == other.top
    return Scores(*(x.double().cpu().numpy() for x in (base.nll, other.nll, kl, same)))


def join(parts: Sequence[Scores]) -> Scores:
    """Put scores one after another."""
    return Scores(
        nll_base=np.concatenate([part.nll_base for part in parts]),
        nll=np.concatenate([part.nll for part in parts]),
        kl=np.concatenate([part.kl for part in parts]),
        same_top=np.concatenate([part.same_top for part in parts]),
    )


def summarize(scores: Scores) -> Comparison:
    """Sum up; errors are those of llama-perplexity, which takes tokens as independent."""
    loss_base, loss, change = _mean(scores.nll_base), _mean(scores.nll), scores.delta_p
    covariance = 0.0
    if len(scores.nll) >= _FEW:
        product = float(np.mean(scores.nll * scores.nll_base)) - loss.value * loss_base.value
        covariance = product / (len(scores.nll) - 1)
    of_difference = loss.error**2 + loss_base.error**2 - 2 * covariance
    square = _mean(change**2)
    rms = math.sqrt(square.value)
    share = float(scores.same_top.mean())
    spread = loss.error * loss_base.error
    return Comparison(
        tokens=len(scores.nll),
        ppl_base=_perplexity(loss_base),
        ppl=_perplexity(loss),
        log_ratio=Estimate(loss.value - loss_base.value, math.sqrt(max(0.0, of_difference))),
        correlation=covariance / spread if spread else 1.0,
        kl=_mean(scores.kl),
        kl_spread=_spread(scores.kl),
        delta_p=_mean(change),
        delta_p_rms=Estimate(rms, 0.5 / rms * square.error if rms else 0.0),
        delta_p_spread=_spread(change),
        same_top=Estimate(share, math.sqrt(share * (1 - share) / max(1, len(scores.nll) - 1))),
    )


def _pieces(predictions: Predictions) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a few rows at a time, which stay in the processor's cache: logits [rows, vocab] and their sizes [rows]."""
    yield from zip(torch.split(predictions.logits, _ROWS), torch.split(predictions.size, _ROWS), strict=True)


def _sizes(logits: Tensor) -> Tensor:
    """Return the logarithm of each row's sum of exponentials, float32 [n]."""
    return torch.cat([part.float().logsumexp(-1) for part in torch.split(logits, _ROWS)])


def _divergence(base: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Return D(base || other) of a few rows of logits and their sizes, in nats, never below 0."""
    (a, size_a), (b, size_b) = base, other
    a = a.float()
    shares = (a - size_a[:, None]).exp_()
    # Impossible tokens cost nothing; infinity times zero would be no number.
    terms = torch.where(shares > 0, (a - b).mul_(shares), 0.0)
    return (terms.sum(-1, dtype=torch.float64) + size_b - size_a).clamp_min(0)


def _mean(values: Array) -> Estimate:
    """Return the mean and its standard error."""
    mean = float(values.mean())
    if len(values) <= _FEW or not math.isfinite(mean):
        return Estimate(mean, 0.0)
    variance = float(np.mean(values * values)) - mean * mean
    return Estimate(mean, math.sqrt(max(0.0, variance) / (len(values) - 1)))


def _perplexity(loss: Estimate) -> Estimate:
    value = math.exp(loss.value) if loss.value < 700 else math.inf
    return Estimate(value, value * loss.error)


def _spread(values: Array) -> Spread:
    shares = np.array([0.0, 0.01, 0.05, 0.5, 0.95, 0.99, 0.999, 1.0])
    # An infinite value must not make its neighbours' mean no number.
    finite = np.isfinite(values).all()
    found = np.quantile(values, shares) if finite else np.quantile(values, shares, method="nearest")
    return Spread(*found.tolist())
