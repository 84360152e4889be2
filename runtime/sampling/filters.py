"""The samplers that narrow or scale a choice: pure functions, with llama.cpp's semantics."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .candidates import Candidates, Floats, highest, log_total, places_of_highest, softmax

# Below this a temperature is nothing in float32, and nothing divided by it is no number.
_COLDEST = 1e-30
# What fits into float32 with room to spare.
_HOTTEST = 1e30
# How many of a long list are sorted first, in the hope that they are enough.
_TRIES = (256, 1024)


def top_k(candidates: Candidates, count: int) -> Candidates:
    """Keep the `count` highest candidates."""
    return highest(candidates, count)


def top_n_sigma(candidates: Candidates, n: float) -> Candidates:
    """Ban candidates that are more than n standard deviations below the highest logit (arXiv 2411.07641).

    They stay in the list, so that what follows counts them, as in llama.cpp.
    """
    logits = candidates.logits
    if len(logits) < 2:
        return candidates
    allowed = logits if logits.min() > -math.inf else logits[logits > -math.inf]
    if not len(allowed):
        return candidates
    apart = allowed - allowed.mean(dtype=np.float64).astype(logits.dtype)
    floor = candidates.peak - n * math.sqrt(np.dot(apart, apart) / len(apart))
    left = logits.copy()
    np.copyto(left, -math.inf, where=logits < floor)
    return candidates._replace(logits=left)


def typical_p(candidates: Candidates, p: float, min_keep: int = 0) -> Candidates:
    """Keep those whose surprise is closest to the entropy, until more than p is held (arXiv 2202.00666)."""
    probs = softmax(candidates)
    surprise = -np.log(probs)
    # A candidate of no probability adds nothing to the entropy; 0 * inf would make it NaN.
    entropy = (probs * surprise).sum(where=probs > 0, dtype=np.float64)
    nearness = -np.abs(surprise - probs.dtype.type(entropy))
    for order in _growing(nearness):
        held = probs[order].cumsum(dtype=np.float64).astype(np.float32)
        if held[-1] > p and len(order) >= min_keep:
            break
    count = max(int(np.count_nonzero(held <= np.float32(p))) + 1, min_keep)
    return candidates.pick(order[:count], is_sorted=False)


def top_p(candidates: Candidates, p: float, min_keep: int = 0) -> Candidates:
    """Keep the fewest of the highest candidates that together hold at least p."""
    if candidates.is_sorted:
        sums = np.exp(candidates.logits - candidates.logits[0]).cumsum(dtype=np.float64)
        return candidates.keep(max(_num_below(sums / sums[-1], p) + 1, min_keep))
    total = log_total(candidates)
    for head in _sorted_heads(candidates, total, p, min_keep):
        held = np.exp(head.logits - total).cumsum(dtype=np.float64)
        if held[-1] >= p and len(held) >= min_keep:
            break
    return head.keep(max(_num_below(held, p) + 1, min_keep))


def min_p(candidates: Candidates, p: float, min_keep: int = 0) -> Candidates:
    """Keep the candidates that are at least p times as likely as the likeliest, and no fewer than min_keep."""
    floor = candidates.peak + math.log(p)
    if candidates.is_sorted:
        return candidates.keep(max(int(np.count_nonzero(candidates.logits >= floor)), min_keep))
    where = np.flatnonzero(candidates.logits >= floor)
    return highest(candidates, min_keep) if len(where) < min_keep else candidates.pick(where, is_sorted=False)


def xtc(candidates: Candidates, threshold: float, min_keep: int = 0) -> Candidates:
    """Drop all candidates of at least `threshold` probability but the least likely of them.

    Excludes top choices (github.com/oobabooga/text-generation-webui/pull/6335). Whether it happens at all for a
    token is a throw of dice, and not this function's.
    """
    probs = softmax(candidates)
    # At a threshold of 0 a banned token would be the least likely of all, and the only one left.
    likely = np.flatnonzero((probs >= threshold) & (probs > 0))
    if len(likely) < 2 or len(candidates.logits) - len(likely) + 1 < min_keep:
        return candidates
    logits = candidates.logits[likely]
    last = likely[np.flatnonzero(logits == logits.min())[-1]]
    left = np.ones(len(candidates.logits), dtype=np.bool_)
    left[likely] = False
    left[last] = True
    return candidates.pick(np.flatnonzero(left), is_sorted=candidates.is_sorted)


def temperature(candidates: Candidates, degree: float) -> Candidates:
    """Divide the logits by the temperature, where they would overflow relative to the highest."""
    degree = max(degree, _COLDEST)
    peak = candidates.peak
    logits = candidates.logits if abs(peak) < _HOTTEST * degree else candidates.logits - peak
    return candidates._replace(logits=logits / degree)


def dynamic_temperature(candidates: Candidates, degree: float, span: float, exponent: float) -> Candidates:
    """Apply a temperature from degree - span to degree + span: the more even the choice, the higher."""
    if len(candidates.logits) < 2:
        return candidates
    coldest = max(0.0, degree - span)
    share = entropy(softmax(candidates)) / math.log(len(candidates.logits))
    return temperature(candidates, coldest + (degree + span - coldest) * max(share, 0.0) ** exponent)


def entropy(probs: Floats) -> float:
    """Return the entropy of probabilities [n], in nats."""
    some = probs[probs > 0]
    return -float((some * np.log(some)).sum(dtype=np.float64))


def _num_below(held: Floats, p: float) -> int:
    """Return how many of the rising sums [n] are below p; in float32, as llama.cpp's: 0.4 + 0.3 is to be 0.7."""
    return int(held.astype(np.float32).searchsorted(np.float32(p)))


def _growing(values: Floats) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Yield the places of the highest values in order: a few, then more, then all."""
    for count in _TRIES:
        if count < len(values):
            yield places_of_highest(values, count)
    yield places_of_highest(values, len(values))


def _sorted_heads(candidates: Candidates, total: float, p: float, min_keep: int) -> Iterator[Candidates]:
    """Yield the highest of unsorted candidates, sorted: a few, then more, then as many as top_p can need."""
    size = len(candidates.logits)
    for count in _TRIES:
        if count < size:
            yield highest(candidates, count)
    # Tokens of less than (1 - p) / n each hold less than 1 - p together: they are never needed, nor sorted.
    # One nat below, so that rounding does not matter.
    floor = total + math.log((1 - p) / size) - 1 if p < 1 else -math.inf
    where = np.flatnonzero(candidates.logits >= floor)
    some = candidates if len(where) < min_keep else candidates.pick(where, is_sorted=False)
    yield highest(some, size)
