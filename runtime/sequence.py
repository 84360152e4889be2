"""One request under way: its tokens, how many of them are computed, its blocks and its own sampling state."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .controls import StopText
from .request import FinishReason, Output, Request
from .thinking.loops import LoopGuard

if TYPE_CHECKING:
    from .sampling.logprobs import TokenLogprob
    from .sampling.processors import LogitsProcessor
    from .thinking.automaton import Automaton, Verdict


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a sequence got in one step: drafts that held and a token drawn after them; no tokens if none is allowed.

    verdict: what its thinking makes of the last one; is_probe: it only looks ahead.
    """

    tokens: list[int]
    verdict: Verdict | None = None
    is_probe: bool = False


@dataclass(slots=True, eq=False)
class Sequence:
    """A request's state; `tokens` is the prompt and all that was generated.

    thinking: follows its thoughts, if the model has any;
    drafts: guessed tokens that follow `tokens`, to be verified by the next step;
    num_told: how many of `tokens` were given out, or were in the prompt; those after them may be taken back;
    num_forwarded, num_sampled: tokens computed in all, and tokens that were drawn and computed or given out;
    num_drafted, num_accepted: drafts that were computed, and tokens that they gave;
    guard: watches the answer for loops, if the request asks;
    is_reading: its prompt is being computed, or what it had when it lost its blocks, and nothing was drawn since;
    was_read: its whole prompt has been computed once; num_lost: the most tokens that were when it lost its blocks;
    num_cached: prompt tokens whose keys and values were found in the cache;
    logprobs: what the model thought of the tokens that were drawn, by their places, if the request asks for it;
    seed: the request's, or the one drawn for it.
    """

    request: Request
    text: StopText
    processors: list[LogitsProcessor] = field(default_factory=list)
    logprobs: dict[int, TokenLogprob] = field(default_factory=dict, init=False)
    thinking: Automaton | None = None
    tokens: list[int] = field(init=False)
    drafts: list[int] = field(default_factory=list)
    num_computed: int = 0
    is_reading: bool = False
    was_read: bool = False
    num_lost: int = 0
    num_cached: int = 0
    num_told: int = field(init=False)
    num_forwarded: int = 0
    num_sampled: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    blocks: list[int] = field(default_factory=list)
    num_published: int = 0
    guard: LoopGuard | None = field(init=False)
    seed: int = field(init=False)
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt)
        self.num_told = len(self.tokens)
        if self.thinking is not None:
            self.tokens += self.thinking.start()
        repeats = self.request.sampling.repeat_stop
        self.guard = LoopGuard(repeats) if repeats else None
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
    def num_settled(self) -> int:
        """Return how many tokens are computed and will not be taken back."""
        return min(self.num_computed, len(self.tokens) - self.num_held())

    def num_held(self, *, is_last: bool = False) -> int:
        """Return how many tokens may be taken back; is_last: or would be, if the sequence ended now."""
        if self.thinking is None:
            return 0
        return self.thinking.num_probed if is_last else self.thinking.num_held

    @property
    def answer_start(self) -> int:
        """Return the place in `tokens` from which they are answer, and no thought."""
        return len(self.tokens) - self.thinking.num_answer if self.thinking is not None else 0

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
        """Return what a step did for this sequence, whose latest tokens are `tokens`."""
        # A prompt that is computed again after a preemption is not reported a second time.
        done = (
            self.num_prompt if self.was_read else min(max(self.num_computed, self.num_lost), self.num_prompt)
        )
        thinking = self.thinking.report() if finish and self.thinking is not None else None
        return Output(
            self.id,
            tokens,
            text,
            finish,
            done,
            self.num_prompt,
            self.num_cached,
            num_thinking=0 if self.thinking is None else self.thinking.num_thinking,
            num_forwarded=self.num_forwarded,
            num_sampled=self.num_sampled,
            num_drafted=self.num_drafted,
            num_accepted=self.num_accepted,
            thinking=thinking,
            logprobs=self._logprobs_of(len(tokens)) if self.logprobs else (),
            stop=self.text.stopped_by if finish == "stop" else None,
        )

    def _logprobs_of(self, count: int) -> tuple[TokenLogprob, ...]:
        """Return what is known of the last `count` tokens that were given out."""
        places = range(self.num_told - count, self.num_told)
        return tuple(self.logprobs[place] for place in places if place in self.logprobs)
