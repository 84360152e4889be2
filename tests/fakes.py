"""An engine without a model: logits that are a function of the prefix, and one letter of text per id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mull.runtime.blocks import BlockPool
from mull.runtime.engine import Engine
from mull.runtime.request import Output
from mull.runtime.sampling.sampler import Sampler
from mull.runtime.scheduler import Scheduler, Step
from mull.runtime.speculative.proposer import Proposer
from torch import Tensor

Logits = Callable[[tuple[int, ...]], Tensor]


def hashed(vocab_size: int) -> Logits:
    """Return logits that look random and depend on every token of the prefix."""

    def logits(prefix: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash(prefix) % 2**62)
        return torch.randn(vocab_size, generator=generator) * 3

    return logits


def scripted(answers: Mapping[tuple[int, ...], tuple[int, ...]], vocab_size: int) -> Logits:
    """Return logits under which a greedy sampler answers each prompt as told, token by token."""

    def logits(prefix: tuple[int, ...]) -> Tensor:
        row = torch.zeros(vocab_size)
        for prompt, answer in answers.items():
            done = len(prefix) - len(prompt)
            if 0 <= done < len(answer) and prefix == prompt + answer[:done]:
                row[answer[done]] = 10.0
        return row

    return logits


class FakeRunner:
    """Keeps tokens where a model keeps keys and values, and computes from what it reads back from there.

    A block that was shared, freed or overwritten wrongly therefore fails here.
    """

    def __init__(self, logits: Logits, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.logits = logits
        self.steps: list[list[tuple[str, int]]] = []
        self._slots: list[int | None] = [None] * (num_blocks * block_size)

    @property
    def num_tokens(self) -> int:
        """Return how many tokens were computed in all."""
        return sum(count for step in self.steps for _, count in step)

    def run(self, step: Step) -> Tensor:
        """Write the step's tokens, read every sequence back, and return its rows."""
        self.steps.append([(sequence.id, count) for sequence, count in step.items])
        written: set[int] = set()
        rows = []
        for sequence, count in step.items:
            start = sequence.num_computed
            places = [self._place(sequence.blocks, at) for at in range(start + count)]
            assert written.isdisjoint(places[start:]), "two sequences write to one slot"
            written.update(places[start:])
            for place, token in zip(places[start:], sequence.pending(count), strict=True):
                self._slots[place] = token
            prefix = tuple(self._slots[place] for place in places)
            expected = (*sequence.tokens, *sequence.drafts)[: len(prefix)]
            assert prefix == expected, f"{sequence.id} reads another text from its blocks"
            for back in reversed(range(sequence.num_logits(count))):
                rows.append(self.logits(prefix[: len(prefix) - back]))
        return torch.stack(rows) if rows else torch.empty(0, 0)

    def _place(self, blocks: list[int], at: int) -> int:
        return blocks[at // self.block_size] * self.block_size + at % self.block_size


class Letters:
    """A detokenizer: id 0 is "a", 1 is "b" and so on, or as a list of pieces says."""

    def __init__(self, pieces: list[str] | None = None) -> None:
        self._pieces = pieces

    def feed(self, token: int) -> str:
        """Return the token's text."""
        return chr(ord("a") + token) if self._pieces is None else self._pieces[token]

    def flush(self) -> str:
        """Return nothing: every token is a whole piece."""
        return ""


def engine(
    logits: Logits,
    *,
    num_blocks: int = 64,
    block_size: int = 4,
    reuse: bool = True,
    pieces: list[str] | None = None,
    proposer: Proposer | None = None,
    **scheduler: Any,
) -> Engine:
    """Return an engine over a fake runner; the rest goes to the scheduler."""
    pool = BlockPool(num_blocks, block_size, reuse=reuse)
    scheduler.setdefault("max_context", num_blocks * block_size)
    return Engine(
        FakeRunner(logits, num_blocks, block_size),
        pool,
        Scheduler(pool, **scheduler),
        Sampler(),
        lambda: Letters(pieces),
        lambda token: Letters(pieces).feed(token).encode(),
        proposer,
    )


def check(engine: Engine) -> None:
    """Assert that the pool's books and the scheduler's agree."""
    engine.pool.check([*engine.scheduler.running, *engine.scheduler.waiting])


def drain(engine: Engine) -> dict[str, list[Output]]:
    """Step until nothing is left, checking the books after each; return every request's outputs."""
    outputs: dict[str, list[Output]] = {}
    while engine.has_work:
        for output in engine.step():
            outputs.setdefault(output.request_id, []).append(output)
        check(engine)
    return outputs


def tokens_of(outputs: list[Output]) -> tuple[int, ...]:
    """Return all ids of one request's outputs."""
    return tuple(token for output in outputs for token in output.tokens)


def text_of(outputs: list[Output]) -> str:
    """Return the whole text of one request's outputs."""
    return "".join(output.text for output in outputs)
