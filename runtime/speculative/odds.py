"""Guesses of one sequence's next tokens, and how often those of each kind have been right lately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Final

_PRIOR_WEIGHT: Final = 3.0
# What came long ago fades: about the last fifty guesses of a kind count.
_FADE: Final = 0.98


class Odds:
    """The share of right guesses by kind, from a prior on; a guess need not have been drafted to be counted."""

    def __init__(self, priors: Sequence[float]) -> None:
        self._right = [prior * _PRIOR_WEIGHT for prior in priors]
        self._seen = [_PRIOR_WEIGHT] * len(priors)

    def __getitem__(self, kind: int) -> float:
        return self._right[kind] / self._seen[kind]

    def observe(self, kind: int, *, is_right: bool) -> None:
        """Count one guess."""
        self._right[kind] = self._right[kind] * _FADE + is_right
        self._seen[kind] = self._seen[kind] * _FADE + 1


@dataclass(frozen=True, slots=True)
class Guesses:
    """Tokens guessed for the places from `start` on; kinds: what kind of guess each of them is."""

    start: int
    tokens: list[int]
    kinds: list[int]

    def chances(self, odds: Odds) -> list[float]:
        """Return for each guess how likely it and all before it are right."""
        return list(accumulate((odds[kind] for kind in self.kinds), mul))

    def learn(self, tokens: Sequence[int], odds: Odds) -> int | None:
        """Compare the guesses with what came; returns the number of the one that was wrong, if any was."""
        for number, came in enumerate(tokens[self.start : self.start + len(self.tokens)]):
            is_right = self.tokens[number] == came
            odds.observe(self.kinds[number], is_right=is_right)
            if not is_right:
                return number
        return None


NO_GUESSES: Final = Guesses(0, [], [])
