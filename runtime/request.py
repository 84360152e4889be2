"""What is asked of the engine, and what it answers step by step."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .sampling.logprobs import TokenLogprob
from .sampling.params import SamplingParams
from .thinking.plan import ThinkingPlan, ThinkingReport

if TYPE_CHECKING:
    from .grammar.engine import CompiledGrammar

FinishReason = Literal["stop", "length", "repeat", "cancelled"]


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to continue; `id` is unique among the requests that are under way.

    thinking: the limits of its thoughts, None where a model has none; grammar: what its answer must keep to.
    """

    prompt: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    eos_ids: frozenset[int] = frozenset()
    thinking: ThinkingPlan | None = None
    grammar: CompiledGrammar | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Output:
    """What one step did for one request.

    tokens: the new ids; text: the new text, in whole characters, with stop strings cut;
    num_computed: prompt tokens computed so far, of num_prompt; num_cached: those that were reused;
    finish: why it ended, in the request's last output;
    num_thinking: tokens of thought so far, some of them perhaps not given out yet; num_forwarded: tokens computed
    so far, num_sampled: those of them that were drawn, and the last one; num_drafted: guesses that were computed,
    num_accepted: tokens that they gave; thinking: how it thought, in its last output;
    logprobs: what the model thought of those of the new tokens that were drawn, if the request asks for it;
    stop: the stop string that ended it.
    """

    request_id: str
    tokens: tuple[int, ...]
    text: str
    finish: FinishReason | None
    num_computed: int
    num_prompt: int
    num_cached: int
    num_thinking: int = 0
    num_forwarded: int = 0
    num_sampled: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    thinking: ThinkingReport | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    stop: str | None = None
