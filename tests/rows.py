"""Rows of logits and what is left of them, for the tests of samplers."""

from __future__ import annotations

import numpy as np
from mull.runtime.sampling.candidates import Candidates, Floats, softmax

RISING = [0.1, 0.2, 0.3, 0.4]


def candidates(probs: list[float]) -> Candidates:
    """Return a whole vocabulary with these probabilities."""
    with np.errstate(divide="ignore"):
        return Candidates(np.log(np.array(probs, dtype=np.float32)))


def random_row(size: int, seed: int, spread: float = 3.0) -> Floats:
    """Return float32 logits [size]."""
    return (np.random.default_rng(seed).standard_normal(size) * spread).astype(np.float32)


def ids(found: Candidates) -> list[int]:
    """Return the ids of what is left, in its order."""
    return list(range(len(found.logits))) if found.ids is None else found.ids.tolist()


def probs(found: Candidates) -> list[float]:
    """Return the probabilities of what is left, highest first."""
    return sorted(softmax(found).tolist(), reverse=True)


def by_id(found: Candidates) -> dict[int, float]:
    """Return the probability of each candidate that has one."""
    shares = zip(ids(found), softmax(found).tolist(), strict=True)
    return {token: share for token, share in shares if share > 0}
