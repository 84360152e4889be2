"""What a step of several tokens costs beside a step of one, learned from the steps' times as they come."""

from __future__ import annotations

from typing import Final

# Steps of more tokens than this are taken to cost as much per token as a step of this many.
MOST_TOKENS: Final = 32
# What each token more is taken to cost, of a step of one: before any was seen, and at least.
_SLOPE, _LEAST_SLOPE = 0.06, 0.01
# How much one step teaches at least, and how far it may differ from what was expected: other programs disturb steps.
_RATE: Final = 0.08
_MOST_SURPRISE: Final = 2.0
# How many tokens away a step still teaches something.
_REACH: Final = 6
_UNIT_RATE: Final = 0.2


class Costs:
    """The cost of a step by its number of tokens, in units of a step of one.

    Steps are compared with the one right before them, so that a context that grows and a machine that slows down,
    which change all steps, teach nothing wrong.
    """

    def __init__(self) -> None:
        self._ratios = [1 + _SLOPE * (tokens - 1) for tokens in range(MOST_TOKENS + 1)]
        self._seen = [0.0] * (MOST_TOKENS + 1)
        self._last: tuple[int, float] | None = None
        self.seconds: float | None = None
        """What a step of one token takes at present; None as long as none was seen."""

    def __getitem__(self, num_tokens: int) -> float:
        if num_tokens <= MOST_TOKENS:
            return self._ratios[num_tokens]
        return self._ratios[MOST_TOKENS] * num_tokens / MOST_TOKENS

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Learn from one step."""
        if not 1 <= num_tokens <= MOST_TOKENS:
            self._last = None
            return
        unit = seconds / self._ratios[num_tokens]
        self.seconds = unit if self.seconds is None else self.seconds + _UNIT_RATE * (unit - self.seconds)
        last, self._last = self._last, (num_tokens, seconds)
        if last is None or last[0] == num_tokens:
            return
        (fewer, less), (more, longer) = sorted((last, self._last))
        expected = self._ratios[more]
        found = longer / less * self._ratios[fewer]
        self._learn(more, min(max(found, expected / _MOST_SURPRISE), expected * _MOST_SURPRISE))

    def _learn(self, num_tokens: int, found: float) -> None:
        """Correct the cost of steps of about so many tokens; more tokens never cost less."""
        ratios, error = self._ratios, found - self._ratios[num_tokens]
        for other in range(max(2, num_tokens - _REACH), min(MOST_TOKENS, num_tokens + _REACH) + 1):
            share = 1 - abs(other - num_tokens) / (_REACH + 1)
            self._seen[other] += share
            rate = share * max(_RATE, 1 / (1 + self._seen[other]))
            ratios[other] += rate * error * (other - 1) / (num_tokens - 1)
        for other in range(2, MOST_TOKENS + 1):
            ratios[other] = max(ratios[other], ratios[other - 1] + _LEAST_SLOPE)
