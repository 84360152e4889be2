"""A look ahead: what the answer would be if the thought ended here, and how sure the model is of it.

After Dynamic Early Exit in Reasoning Models (arXiv 2504.15895).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from .plan import ThinkingPlan

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST = 12
_EVERY = 32
_NOT_BEFORE, _NOT_BEFORE_SHARE = 64, 0.2
_COST = 0.1  # of the thought


def may_probe(plan: ThinkingPlan, thought: int, since: int, spent: int) -> bool:
    """Tell whether to look ahead after `thought` tokens, `since` after the last time, `spent` on it so far."""
    early = thought < max(_NOT_BEFORE, _NOT_BEFORE_SHARE * plan.budget)
    cost = len(plan.marks.close) + len(plan.answer_prefix) + _LONGEST
    return not early and since >= _EVERY and spent + cost <= _COST * max(thought, cost / _COST)


class Probe:
    """Draws the likeliest answer after `forced` tokens; what it appends is taken back afterwards."""

    def __init__(
        self, forced: tuple[int, ...], token_bytes: Callable[[int], bytes], eos_ids: frozenset[int]
    ) -> None:
        self._num_forced = len(forced)
        self._bytes = token_bytes
        self._eos_ids = eos_ids
        self._drawn = 0
        self._log_probs: list[float] = []
        self._text = b""

    @property
    def num_tokens(self) -> int:
        """How many tokens it has appended."""
        return self._num_forced + self._drawn

    @property
    def answer(self) -> str:
        """The text drawn so far, without the space around it."""
        return self._text.decode("utf-8", "replace").strip()

    @property
    def confidence(self) -> float:
        """The geometric mean of the drawn tokens' probabilities."""
        return math.exp(math.fsum(self._log_probs) / len(self._log_probs)) if self._log_probs else 0.0

    def choose(self, logits: Tensor) -> int:
        """Return the likeliest token of logits [vocab], and remember how likely it is."""
        best = int(logits.argmax())
        self._log_probs.append(float(logits[best]) - float(logits.double().logsumexp(-1)))
        return best

    def take(self, token: int) -> bool:
        """Note a drawn token; tell whether the answer is complete."""
        self._drawn += 1
        if token in self._eos_ids:
            return True
        self._text += self._bytes(token)
        return self._drawn >= _LONGEST or b"\n" in self._text.lstrip()
