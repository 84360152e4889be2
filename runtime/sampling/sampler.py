"""From rows of logits to tokens: a sequence's processors, then the filters, then one draw of its own."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from torch import Tensor

from ..sequence import Drawn, Sequence
from .draw import draw_for
from .logprobs import Witness

if TYPE_CHECKING:
    from ..scheduler import Step
    from ..thinking.automaton import Verdict


class Sampler:
    """Draws the tokens of a step; what a sequence gets never depends on the others of the step."""

    def sample(self, logits: Iterable[Tensor], step: Step) -> list[Drawn]:
        """Return what each item of the step that has rows among `logits` [vocab] got, in order.

        The logits are used up: processors change them in place.
        """
        rows = iter(logits)
        sampled: list[Drawn] = []
        for sequence, count in step.items:
            num_rows = sequence.num_logits(count)
            if num_rows:
                sampled.append(self._walk(list(islice(rows, num_rows)), sequence))
        return sampled

    def _walk(self, rows: Iterable[Tensor], sequence: Sequence) -> Drawn:
        """Draw row by row until a draw differs from the draft that the next row was computed with."""
        accepted: list[int] = []
        thinking = sequence.thinking
        is_probe = thinking is not None and thinking.num_probed > 0
        verdict: Verdict | None = None
        for row, draft in zip(rows, [*sequence.drafts, None], strict=True):
            wanted = None if is_probe else sequence.request.sampling.logprobs
            witness = None if wanted is None else Witness(row, wanted)
            token = self._next(row, sequence)
            if token is None:
                break
            if witness is not None:
                sequence.logprobs[len(sequence.tokens) + len(accepted)] = witness.of(token)
            accepted.append(token)
            if not is_probe:
                for processor in sequence.processors:
                    processor.accept(token)
            verdict = None if thinking is None else thinking.take(token)
            if verdict is not None or token != draft:
                break
        for token in verdict.inject if verdict is not None and not is_probe else ():
            for processor in sequence.processors:
                processor.accept(token)
        return Drawn(accepted, verdict, is_probe)

    def _next(self, row: Tensor, sequence: Sequence) -> int | None:
        """Return the token that the sequence's thinking decides on, or else draw one."""
        thinking = sequence.thinking
        if thinking is None:
            return self.draw(row, sequence)
        row = thinking.apply(row)
        token = thinking.choose(row, sequence.request.sampling.temperature, sequence.rng)
        return self.draw(row, sequence) if token is None else token

    def draw(self, logits: Tensor, sequence: Sequence) -> int | None:
        """Draw one token from logits [vocab]; None if every token is banned.

        Raises MullError if the logits are not numbers.
        """
        return draw_for(sequence, logits)
