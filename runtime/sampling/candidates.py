"""The tokens that may still be drawn: numbers on the host, where a few of them cost least."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...kernels.dispatch import find

Floats = npt.NDArray[np.floating[Any]]
Ids = npt.NDArray[np.int64]

# Beyond this many, numpy is faster than the kernel that finds the highest.
_MOST_HIGHEST = 1024


class Candidates(NamedTuple):
    """Logits [n] and their ids [n]; every sampler takes one and returns another.

    logits: float32 as the model gave them for a whole vocabulary, float64 for the highest few;
    ids None: the whole vocabulary, where a logit's place is its id;
    is_sorted: highest logit first, of equal logits the lowest id first.
    """

    logits: Floats
    ids: Ids | None = None
    is_sorted: bool = False

    @property
    def peak(self) -> float:
        """The highest logit; NaN if any logit is."""
        return float(self.logits[0] if self.is_sorted else self.logits.max())

    def keep(self, count: int) -> Candidates:
        """Keep the first `count` candidates."""
        if count >= len(self.logits):
            return self
        return Candidates(self.logits[:count], None if self.ids is None else self.ids[:count], self.is_sorted)

    def pick(self, where: Ids, *, is_sorted: bool) -> Candidates:
        """Keep the candidates at the places `where` [m], in that order."""
        return Candidates(self.logits[where], where if self.ids is None else self.ids[where], is_sorted)

    def token_at(self, place: int) -> int:
        """Return the id of the candidate at a place."""
        return place if self.ids is None else int(self.ids[place])

    def places_of(self, tokens: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Return the places of those tokens [m] that are candidates, and a mask [m] of which these are."""
        if self.ids is None:
            known = tokens < len(self.logits)
            return tokens[known], known
        order = self.ids.argsort()
        found = order[np.searchsorted(self.ids, tokens, sorter=order).clip(max=len(order) - 1)]
        known = self.ids[found] == tokens
        return found[known], known


def on_host(logits: Tensor) -> Candidates:
    """Return a whole vocabulary's logits [vocab] as candidates; memory is shared where it can be."""
    return Candidates((logits if logits.dtype is torch.float32 else logits.float()).numpy(force=True))


def highest_on_device(logits: Tensor, count: int) -> Candidates:
    """Return the `count` highest of logits [vocab], found where they are; if any is NaN, so is the first."""
    if logits.device.type == "cpu":
        found = highest(on_host(logits), count)
        return found._replace(logits=found.logits.astype(np.float64))
    where, values = find("highest", device=logits.device.type)(logits, count)
    return Candidates(values.cpu().numpy().astype(np.float64), where.cpu().numpy(), is_sorted=True)


def highest(candidates: Candidates, count: int) -> Candidates:
    """Return the `count` highest candidates, sorted."""
    if candidates.is_sorted:
        return candidates.keep(count)
    return candidates.pick(places_of_highest(candidates.logits, count), is_sorted=True)


def only_highest(candidates: Candidates, count: int) -> Candidates:
    """Return the `count` highest candidates, of equal ones the first, in any order: many are not sorted."""
    if count >= len(candidates.logits):
        return candidates
    if candidates.is_sorted or count <= _MOST_HIGHEST:
        return highest(candidates, count)
    return candidates.pick(_highest_in_any_order(candidates.logits, count), is_sorted=False)


def places_of_highest(values: Floats, count: int) -> Ids:
    """Return the places of the `count` largest values [n], the largest first, of equal ones the first.

    If any is NaN, the first place is one's.
    """
    if count == 1:
        return np.array([values.argmax()])
    if len(values) <= _MOST_HIGHEST or values.dtype != np.float32:
        return _descending(values)[:count]
    if count > _MOST_HIGHEST:
        some = np.sort(_highest_in_any_order(values, count))
        return some[_descending(values[some])]
    few = _highest_of_few(values, count)
    if few is not None:
        return few
    where, found = find("highest", device="cpu")(torch.from_numpy(values), count)
    # Of a row with NaN the kernel gives no places.
    return np.full(count, np.isnan(values).argmax()) if math.isnan(float(found[0])) else where.numpy()


def _highest_in_any_order(values: Floats, count: int) -> Ids:
    """Return the places of the `count` largest values [n], ascending."""
    if count >= len(values):
        return np.arange(len(values))
    least = np.partition(values, len(values) - count)[len(values) - count]
    surely = ~(values <= least)  # NaN among them
    surely[np.flatnonzero(values == least)[: count - np.count_nonzero(surely)]] = True
    return np.flatnonzero(surely)


def _highest_of_few(values: Floats, count: int) -> Ids | None:
    """Return the places of the `count` largest where a grammar allows fewer; None where it allows more.

    Among 150,000 equal values, minus infinity, the kernel is slow.
    """
    if values[:: len(values) // 64].max() != -np.inf:
        return None
    allowed = np.flatnonzero(values != -np.inf)
    if len(allowed) >= count:
        return None
    banned = np.setdiff1d(np.arange(count), allowed)[: count - len(allowed)]
    return np.concatenate([allowed[_descending(values[allowed])], banned])


def softmax(candidates: Candidates) -> Floats:
    """Return the candidates' probabilities [n]."""
    shares: Floats = np.exp(candidates.logits - candidates.peak)
    shares /= shares.sum(dtype=np.float64)
    return shares


def log_total(candidates: Candidates) -> float:
    """Return the logarithm of the sum of exp(logit): a candidate's probability is exp(logit - that)."""
    peak = candidates.peak
    return peak + float(np.log(np.exp(candidates.logits - peak).sum(dtype=np.float64)))


def _descending(values: Floats) -> Ids:
    """Return the order [n] of values, the largest first, of equal ones the first."""
    if values.dtype != np.float32:
        return np.argsort(-values, kind="stable")
    # As whole numbers, floats of one sign are in order. The place in the lower half makes every key unique, so
    # that the fastest sort is a stable one.
    bits = (np.ascontiguousarray(values) + np.float32(0)).view(np.int32).astype(np.int64)
    bits[np.isnan(values)] = 0x7FFFFFFF  # above infinity
    keys = np.where(bits < 0, bits & 0x7FFFFFFF, -bits) << 32
    keys |= np.arange(len(values))
    keys.sort()
    return keys & 0xFFFFFFFF
