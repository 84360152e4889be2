"""A smaller model of the same vocabulary that guesses the next tokens of sequences, on a cache of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from ...models.base import MAX_STEP, CausalLM
from ...models.batch import Span
from ...models.cache import Cache
from ..blocks import BlockPool

if TYPE_CHECKING:
    from ..sequence import Sequence

_RATE: Final = 0.2

# Tells by the draft model's own probabilities of a sequence's guesses so far whether another one is worth its time.
IsWorth = Callable[[list[float]], bool]


@dataclass(slots=True, eq=False)
class _Follower:
    """A sequence as the draft model knows it; `tokens` are the sequence's, and guesses after them.

    num_sure: how many of them will never be taken back.
    """

    tokens: list[int] = field(default_factory=list)
    num_computed: int = 0
    num_sure: int = 0
    blocks: list[int] = field(default_factory=list)
    num_published: int = 0

    @property
    def num_settled(self) -> int:
        """How many tokens are computed and will stay."""
        return min(self.num_computed, self.num_sure)

    def follow(self, sequence: Sequence) -> None:
        """Take over the sequence's tokens; what was computed of others is forgotten."""
        tokens = sequence.tokens
        at, end = self.num_sure, min(len(self.tokens), len(tokens))
        while at < end and self.tokens[at] == tokens[at]:
            at += 1
        self.tokens[at:] = tokens[at:]
        # The last token is computed again, if need be: it gives the logits.
        self.num_computed = min(self.num_computed, at, len(tokens) - 1)
        self.num_sure = min(sequence.num_told, len(tokens))


class DraftModel:
    """Guesses greedily, several sequences in one pass.

    vocab_size: of the model that it guesses for; context_length: the most tokens that it can take.
    seconds: what one pass takes at present, None before the first.
    """

    def __init__(self, model: CausalLM, cache: Cache, *, vocab_size: int, context_length: int) -> None:
        self.seconds: float | None = None
        self._model = model
        self._cache = cache
        self._pool = BlockPool(cache.num_blocks, cache.block_size)
        self._vocab_size = min(vocab_size, model.config.vocab_size)
        self._context_length = context_length
        self._followers: dict[Sequence, _Follower] = {}

    def keep(self, sequences: Iterable[Sequence]) -> None:
        """Forget all sequences but these."""
        kept = set(sequences)
        for sequence in [each for each in self._followers if each not in kept]:
            self._pool.release(self._followers.pop(sequence))

    def guess(
        self, wanted: Mapping[Sequence, int], is_worth: IsWorth
    ) -> dict[Sequence, list[tuple[int, float]]]:
        """Return up to as many tokens as wanted for each sequence, each with its probability.

        A sequence that is far behind is only brought nearer; one that does not fit is left out.
        """
        guesses: dict[Sequence, list[tuple[int, float]]] = {each: [] for each in wanted}
        active = [each for each in wanted if self._prepare(each, wanted[each])]
        left = MAX_STEP
        items: list[tuple[Sequence, int]] = []
        for sequence in active:
            follower = self._followers[sequence]
            count = min(len(follower.tokens) - follower.num_computed, left)
            left -= count
            items += [(sequence, count)] if count else []
        while items:
            started = time.perf_counter()
            is_short = sum(count for _, count in items) <= 2 * len(items)
            ready = [each for each, count in items if self._is_last(each, count)]
            for sequence, row in zip(ready, self._run(items), strict=True):
                token, probability = _likeliest(row[: self._vocab_size])
                guesses[sequence].append((token, probability))
                self._followers[sequence].tokens.append(token)
            if is_short:
                spent = time.perf_counter() - started
                self.seconds = (
                    spent if self.seconds is None else self.seconds + _RATE * (spent - self.seconds)
                )
            items = [
                (each, 1)
                for each in ready
                if len(guesses[each]) < wanted[each] and is_worth([p for _, p in guesses[each]])
            ]
        return guesses

    def _prepare(self, sequence: Sequence, count: int) -> bool:
        """Follow a sequence and reserve room for its guesses; False if there is none, or none can be made."""
        follower = self._followers.get(sequence)
        if follower is None:
            follower = self._followers[sequence] = _Follower()
            follower.blocks, follower.num_computed = self._pool.match(sequence.tokens)
            follower.num_published = len(follower.blocks)
            follower.tokens = sequence.tokens[: follower.num_computed]
            follower.num_sure = follower.num_computed
        follower.follow(sequence)
        self._pool.publish(follower)
        if count < 1 or len(follower.tokens) + count > self._context_length:
            return False
        if max(follower.tokens[follower.num_computed :]) >= self._model.config.vocab_size:
            return False
        return self._pool.reserve(follower, len(follower.tokens) - follower.num_computed + count)

    def _is_last(self, sequence: Sequence, count: int) -> bool:
        follower = self._followers[sequence]
        return follower.num_computed + count == len(follower.tokens)

    def _run(self, items: list[tuple[Sequence, int]]) -> Tensor:
        """Compute the next tokens of sequences; returns logits [rows, vocab] of those that are then up to date."""
        spans = []
        for sequence, count in items:
            follower = self._followers[sequence]
            ids = follower.tokens[follower.num_computed : follower.num_computed + count]
            last = int(self._is_last(sequence, count))
            spans.append(Span(ids, follower.num_computed, follower.blocks, num_logits=last))
            follower.num_computed += count
        with torch.inference_mode():
            return self._model.step(spans, self._cache)


def _likeliest(row: Tensor) -> tuple[int, float]:
    """Return the highest of logits [vocab], and its probability."""
    best = int(row.argmax())
    return best, float((row[best] - row.logsumexp(-1)).exp())
