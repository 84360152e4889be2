"""What guesses the next tokens of sequences, so that one step can verify several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence as Row

    from ..sequence import Sequence


class Proposer(Protocol):
    """Fills `drafts`; wrong ones cost time and change nothing, since every token is drawn from its own logits."""

    def propose(self, sequences: Row[Sequence]) -> None:
        """Fill the `drafts` of the running sequences, those of the next step."""

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Note what a step of `num_tokens` tokens took."""
