"""From rows of logits to tokens: a sequence's processors, then the filters, then one draw of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import MullError
from .filters import DEFAULT_ORDER, Candidates, Filter, apply_filters, argmax

if TYPE_CHECKING:
    from ..scheduler import Step
    from ..sequence import Sequence


class Sampler:
    """Draws the tokens of a step; what a sequence gets never depends on the others of the step."""

    def __init__(self, order: tuple[Filter, ...] = DEFAULT_ORDER) -> None:
        self.order = order

    @torch.inference_mode()
    def sample(self, logits: Tensor, step: Step) -> list[list[int]]:
        """Return the accepted tokens of each item of the step that has rows in `logits` [rows, vocab].

        A list is empty if no token is allowed at all.
        """
        sampled: list[list[int]] = []
        row = 0
        for sequence, count in step.items:
            num_rows = sequence.num_logits(count)
            if num_rows:
                sampled.append(self._walk(logits[row : row + num_rows], sequence))
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
        peak = float(logits.max())
        if peak == -math.inf:
            return None
        if not math.isfinite(peak):
            raise MullError(
                "the model's logits are not finite numbers",
                hint="the weights may be damaged, or overflow in this compute type: try --dtype f32",
            )
        params = sequence.request.sampling
        if params.is_greedy:
            return argmax(logits)
        candidates = apply_filters(Candidates(logits), params, self.order)
        return candidates.token_at(inverse_cdf(candidates.logits, sequence.rng.random()))


def inverse_cdf(logits: Tensor, uniform: float) -> int:
    """Return the position in logits [n] where the cumulative probability passes `uniform`, in [0, 1)."""
    held = logits.cpu().double().softmax(-1).cumsum(-1)
    # The sum may not be exactly 1. What lies beyond the target has a probability: no banned token wins.
    return int(torch.searchsorted(held, uniform * float(held[-1]), right=True))
