"""One request under way: its tokens, how many of them are computed, its blocks and its own sampling state."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .controls import StopText
from .request import FinishReason, Output, Request

if TYPE_CHECKING:
    from .sampling.processors import LogitsProcessor


@dataclass(slots=True, eq=False)
class Sequence:
    """A request's state; `tokens` is the prompt and all that was generated.

    drafts: guessed tokens that follow `tokens`, to be verified by the next step;
    num_cached: prompt tokens whose keys and values were found in the cache;
    seed: the request's, or the one drawn for it.
    """

    request: Request
    text: StopText
    processors: list[LogitsProcessor] = field(default_factory=list)
    tokens: list[int] = field(init=False)
    drafts: list[int] = field(default_factory=list)
    num_computed: int = 0
    num_cached: int = 0
    blocks: list[int] = field(default_factory=list)
    num_published: int = 0
    seed: int = field(init=False)
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt)
        wanted = self.request.sampling.seed
        self.seed = secrets.randbits(32) if wanted is None else wanted
        self.rng = random.Random(self.seed)

    @property
    def id(self) -> str:
        """Return the request's id."""
        return self.request.id

    @property
    def num_prompt(self) -> int:
        """Return how many tokens the prompt has."""
        return len(self.request.prompt)

    @property
    def num_generated(self) -> int:
        """Return how many tokens were generated."""
        return len(self.tokens) - self.num_prompt

    @property
    def num_pending(self) -> int:
        """Return how many tokens, drafts included, are yet to be computed."""
        return len(self.tokens) + len(self.drafts) - self.num_computed

    def num_logits(self, count: int) -> int:
        """Return how many rows of logits `count` more tokens give: none before the last pending one."""
        return 1 + len(self.drafts) if count == self.num_pending else 0

    def pending(self, count: int) -> list[int]:
        """Return the next `count` tokens to compute."""
        start, end = self.num_computed, self.num_computed + count
        if end <= len(self.tokens):
            return self.tokens[start:end]
        return self.tokens[start:] + self.drafts[: end - len(self.tokens)]

    def output(
        self, tokens: tuple[int, ...] = (), text: str = "", finish: FinishReason | None = None
    ) -> Output:
        """Return what a step did for this sequence."""
        # A prompt that is computed again after a preemption is not reported a second time.
        done = self.num_prompt if self.num_generated else min(self.num_computed, self.num_prompt)
        return Output(self.id, tokens, text, finish, done, self.num_prompt, self.num_cached)
