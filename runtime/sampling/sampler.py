"""From rows of logits to tokens: a sequence's processors, then the filters, then one draw of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import MullError
from .filters import DEFAULT_ORDER, Candidates, Filter, apply_filters, highest

if TYPE_CHECKING:
    from ..scheduler import Step
    from ..sequence import Sequence


class Sampler:
    """Draws the tokens of a step; what a sequence gets never depends on the others of the step."""

    def __init__(self, order: tuple[Filter, ...] = DEFAULT_ORDER) -> None:
        self.order = order

    def sample(self, logits: Tensor, step: Step) -> list[list[int]]:
        """Return the accepted tokens of each item of the step that has rows in `logits` [rows, vocab].

        The logits are used up: processors change them in place. A list is empty if no token is allowed at all.
        """
        sampled: list[list[int]] = []
        row = 0
        for sequence, count in step.items:
            num_rows = sequence.num_logits(count)
            if num_rows:
                # One by one: to iterate over a tensor costs as much as a small layer.
                rows = [logits[at] for at in range(row, row + num_rows)]
                sampled.append(self._walk(rows, sequence))
                row += num_rows
        return sampled

    def _walk(self, rows: Iterable[Tensor], sequence: Sequence) -> list[int]:
        """Draw row by row until a draw differs from the draft that the next row was computed with."""
        accepted: list[int] = []
        for row, draft in zip(rows, [*sequence.drafts, None], strict=True):
            token = self.draw(row, sequence)
            if token is None:
                break
            for processor in sequence.processors:
                processor.accept(token)
            accepted.append(token)
            if token != draft:
                break
        return accepted

    def draw(self, logits: Tensor, sequence: Sequence) -> int | None:
        """Draw one token from logits [vocab]; None if every token is banned.

        Raises MullError if the logits are not numbers.
        """
        for processor in sequence.processors:
            logits = processor.apply(logits)
        best = highest(Candidates(logits), 1)
        peak = float(best.logits[0])
        if peak == -math.inf:
            return None
        if not math.isfinite(peak):
            raise MullError(
                "the model's logits are not finite numbers",
                hint="the weights may be damaged, or overflow in this compute type: try --dtype f32",
            )
        params = sequence.request.sampling
        if params.is_greedy:
            return best.token_at(0)
        candidates = apply_filters(Candidates(logits), params, self.order)
        return candidates.token_at(inverse_cdf(candidates.logits, sequence.rng.random()))


def inverse_cdf(logits: Tensor, uniform: float) -> int:
    """Return the position in logits [n] where the cumulative probability passes `uniform`, in [0, 1)."""
    held = logits.cpu().double().softmax(-1).cumsum(-1)
    # The sum may not be exactly 1. What lies beyond the target has a probability: no banned token wins.
    return int(torch.searchsorted(held, uniform * float(held[-1]), right=True))
