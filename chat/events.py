"""What a reply is told in: progress, pieces of text and thought, calls of tools, and its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..runtime.grammar.constraint import Conformity
from ..runtime.sampling.logprobs import TokenLogprob
from ..runtime.thinking.plan import ThinkingReport
from .message import ToolCall


@dataclass(frozen=True, slots=True)
class Progress:
    """How many tokens of the prompt are computed, of how many."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer; logprobs: what the model thought of its tokens, if the request asked."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of a thought; logprobs: as a Text's."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallBegin:
    """A call of a tool begins; `index` counts the calls of one reply from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolArguments:
    """The next piece of a call's arguments, as JSON text."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallEvent:
    """A whole call of a tool, after its pieces, which together are its arguments.

    Where a call proves broken after its pieces have begun to come, this never comes: its raw text does, as `Text`.
    """

    call: ToolCall
    index: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply has cost; completion_tokens counts every generated token, thoughts included.

    forwarded_tokens: tokens computed in all; sampled_tokens: those that were drawn, and the last one;
    drafted_tokens: those that were guessed ahead, accepted_tokens: those of them that were right.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    thinking_tokens: int = 0
    completion_tokens: int = 0
    forwarded_tokens: int = 0
    sampled_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    load_ms: float = 0.0
    prompt_ms: float = 0.0
    eval_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a reply's thoughts were limited; report: None where the model has none, or nothing could be enforced."""

    report: ThinkingReport | None = None
    enforced: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Truncated:
    """What of a conversation did not fit into the context and was left out: whole messages, and their tokens."""

    messages: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a reply: why it ended, every generated token, the seed that repeats it, how it thought.

    conformity: whether the answer is what the request's format asked for; None where it asked for none;
    logprobs: what the model thought of each token that was drawn, if the request asked; truncated: what was left out
    of the conversation, if anything was; stop: the stop string that ended it; prompt_ids: what it continued;
    tool_errors: why what began like a call of a tool was none, so that it came as text.
    """

    usage: Usage
    reason: str
    token_ids: tuple[int, ...]
    seed: int
    thinking: Thinking = Thinking()
    conformity: Conformity | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    truncated: Truncated | None = None
    stop: str | None = None
    prompt_ids: tuple[int, ...] = ()
    tool_errors: tuple[str, ...] = ()


Event: TypeAlias = Progress | Text | Reasoning | ToolCallBegin | ToolArguments | ToolCallEvent | Done
