"""The penalties on tokens that came lately: a window over a sequence's tokens, and what it does to logits."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

import numpy as np

from .candidates import Candidates, Floats, Ids
from .params import SamplingParams


class Window:
    """Counts the latest tokens of a sequence, those of the prompt among them; size -1: all, 0: none."""

    def __init__(self, size: int, history: Iterable[int] = ()) -> None:
        self._size = size
        self._latest: deque[int] = deque()
        self._counts: Counter[int] = Counter()
        for token in history:
            self.accept(token)

    def accept(self, token: int) -> None:
        """Move the window one token on."""
        if self._size == 0:
            return
        self._counts[token] += 1
        if self._size < 0:
            return
        self._latest.append(token)
        if len(self._latest) > self._size:
            oldest = self._latest.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]

    def counts(self) -> tuple[Ids, Ids]:
        """Return the tokens of the window [m], each once, and how often each is in it [m]."""
        size = len(self._counts)
        tokens = np.fromiter(self._counts, np.int64, size)
        return tokens, np.fromiter(self._counts.values(), np.int64, size)


def penalize(candidates: Candidates, window: Window, params: SamplingParams) -> Candidates:
    """Lower the logits of the tokens in the window.

    Negative logits are multiplied by the repeat penalty, positive ones divided, so that both fall.
    """
    tokens, counts = window.counts()
    places, known = candidates.places_of(tokens)
    if not len(places):
        return candidates
    logits: Floats = candidates.logits.copy()
    old = logits[places]
    repeated = np.where(old > 0, old / params.repeat_penalty, old * params.repeat_penalty)
    logits[places] = repeated - counts[known] * params.frequency_penalty - params.presence_penalty
    return Candidates(logits, candidates.ids)
