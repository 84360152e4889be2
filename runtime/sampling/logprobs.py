"""What the model itself thought of a token: logarithms of probabilities before any sampler; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A drawn token, the natural logarithm of its probability, and the likeliest tokens with theirs.

    The probabilities are the softmax of the model's own logits, before biases, grammars, samplers and temperature, as
    OpenAI's are: a token that was favoured by them may be unlikely here, and the drawn one may not be in `top`.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Witness:
    """Remembers a row of logits [vocab] as the model gave it, until a token has been drawn from it."""

    def __init__(self, logits: Tensor, count: int) -> None:
        from .candidates import highest, log_total, on_host

        row = on_host(logits)
        self._total = log_total(row)
        # The row will be changed in place.
        self._logits = row.logits.copy()
        head = highest(row, count) if count else None
        ids = [] if head is None or head.ids is None else head.ids.tolist()
        values = [] if head is None else (head.logits.astype("float64") - self._total).tolist()
        self._top = tuple(zip(ids, values, strict=True))

    def of(self, token: int) -> TokenLogprob:
        """Return what the model thought of a token."""
        return TokenLogprob(token, float(self._logits[token]) - self._total, self._top)
