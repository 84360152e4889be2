"""A reply as it arrives: pieces of text in, events out, the same however the text was cut into pieces."""

from __future__ import annotations

import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..runtime.grammar.constraint import Conformity
from ..runtime.sampling.logprobs import TokenLogprob
from ..runtime.thinking.plan import ThinkingReport
from .families.family import Family
from .message import ToolCall


@dataclass(frozen=True, slots=True)
class Progress:
    """How many tokens of the prompt are computed, of how many."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of a thought."""

    text: str


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
    """A whole call of a tool, after its pieces if there were any."""

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
    of the conversation, if anything was; stop: the stop string that ended it.
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


Event = Progress | Text | Reasoning | ToolCallBegin | ToolArguments | ToolCallEvent | Done


def new_call_id() -> str:
    """Return an id for a tool call: nine letters and digits, which is what Mistral's templates accept."""
    return "call" + secrets.token_hex(3)[:5]


class ReplyParser(ABC):
    """Tells the parts of one reply apart; what it is in is a function that takes from what is held."""

    def __init__(self, state: Callable[[], bool]) -> None:
        self._state = state
        self._held = ""
        self._events: list[Event] = []

    @property
    def thinking(self) -> bool:
        """Whether the reply is within a thought."""
        return self._state == self._thought

    def feed(self, piece: str) -> list[Event]:
        """Take the next piece of the reply; return what is certain by now."""
        self._held += piece
        while self._held and self._state():
            pass
        return self._take()

    @abstractmethod
    def flush(self) -> list[Event]:
        """End the reply; return what was held back. An unclosed thought stays a thought."""

    @abstractmethod
    def _thought(self) -> bool:
        """Take what is certain of a thought; return whether there is more to do."""

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events


class StreamParser(ReplyParser):
    """Tell thoughts, answer and tool calls apart in one reply.

        START ──open tag──► THOUGHT ──close tag──► START        (whitespace around both tags is dropped)
        START ──other text──► ANSWER                            (an open tag in an answer is text,
        ANSWER ──tool tag──► CALL ──its close tag──► ANSWER      unless the family is interleaved)

    Only what may still become a tag, and the whitespace before it, is held back. What a family puts around its answers
    is left out.
    """

    def __init__(
        self,
        family: Family,
        *,
        opened: bool = False,
        parse_tools: bool = False,
        make_id: Callable[[], str] = new_call_id,
    ) -> None:
        # The line break that belongs to some tags does not come where a thought is ended at once.
        self._open = (family.open_tag or "").rstrip()
        self._close = family.close_tag or ""
        self._tool_open = (family.tool_open or "") if parse_tools else ""
        self._tool_close = family.tool_close or ""
        self._hidden = family.hidden
        self._interleaved = family.interleaved
        self._make_id = make_id
        self._fresh = True  # nothing of the answer has come yet
        self._skip_space = opened and family.can_think
        # A model may repeat the tag that its template has already opened.
        self._may_repeat_open = self._skip_space
        self._space_before_call = ""
        super().__init__(self._thought if opened and family.can_think else self._answer)

    def flush(self) -> list[Event]:
        """End the reply; return what was held back. An unclosed thought stays a thought."""
        if self._state == self._call:
            self._end_call(self._held, raw=self._space_before_call + self._tool_open + self._held)
        elif self._state == self._thought:
            self._emit(Reasoning, self._held)
        else:
            self._emit(Text, self._held)
        self._held = ""
        return self._take()

    def _thought(self) -> bool:
        """Take what is certain of a thought; return whether there is more to do."""
        if self._skip_space:
            self._held = self._held.lstrip()
        if self._may_repeat_open and self._held:
            if self._held.startswith(self._open):
                self._held = self._held[len(self._open) :].lstrip()
                self._may_repeat_open = False
            elif self._open.startswith(self._held):
                return False
        if not self._held:
            return False
        at = self._held.find(self._close)
        if at < 0:
            certain = certain_length(self._held, (self._close,), space_too=True)
            self._emit(Reasoning, self._held[:certain])
            self._held = self._held[certain:]
            return False
        self._emit(Reasoning, self._held[:at].rstrip())
        self._held = self._held[at + len(self._close) :]
        self._state, self._skip_space, self._may_repeat_open = self._answer, True, False
        return True

    def _answer(self) -> bool:
        """Take what is certain of an answer; return whether there is more to do."""
        if self._skip_space:
            self._held = self._held.lstrip()
        tags = [self._tool_open] if self._tool_open else []
        if self._open and (self._interleaved or (self._fresh and self._may_open())):
            tags.append(self._open)
        found = [(at, tag) for tag in (*tags, *self._hidden) if (at := self._held.find(tag)) >= 0]
        if not found:
            certain = certain_length(self._held, [*tags, *self._hidden], space_too=bool(tags or self._hidden))
            self._emit(Text, self._held[:certain])
            self._held = self._held[certain:]
            return False
        at, tag = min(found)
        before, self._held = self._held[:at], self._held[at + len(tag) :]
        self._emit(Text, before.rstrip())
        if tag in self._hidden:
            self._skip_space = self._skip_space or self._fresh
        elif tag == self._open:
            self._state, self._skip_space = self._thought, True
        else:
            self._state, self._space_before_call = self._call, before[len(before.rstrip()) :]
        return True

    def _may_open(self) -> bool:
        """Whether what is held may begin with the open tag, whitespace aside."""
        start = self._held.lstrip()[: len(self._open)]
        return self._open.startswith(start)

    def _call(self) -> bool:
        """Wait for the end of a tool call; return whether there is more to do."""
        at = self._held.find(self._tool_close)
        if at < 0:
            return False
        body, self._held = self._held[:at], self._held[at + len(self._tool_close) :]
        raw = self._space_before_call + self._tool_open + body + self._tool_close
        self._end_call(body, raw)
        self._state = self._answer
        return True

    def _end_call(self, body: str, raw: str) -> None:
        call = parse_json_call(body, self._make_id)
        if call is None:
            self._skip_space = False
            self._emit(Text, raw)
        else:
            self._events.append(ToolCallEvent(call))
            self._fresh, self._skip_space = False, True

    def _emit(self, kind: type[Text] | type[Reasoning], text: str) -> None:
        if not text:
            return
        self._skip_space = self._may_repeat_open = False
        if kind is Text:
            self._fresh = False
        self._events.append(kind(text))


def parse_json_call(body: str, make_id: Callable[[], str] = new_call_id) -> ToolCall | None:
    """Read `{"name": …, "arguments": {…}}`; None if it is not a call."""
    try:
        call = json.loads(body)
        arguments = call["arguments"] if "arguments" in call else call.get("parameters", {})
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        name = call["name"]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    if not isinstance(name, str) or not name or not isinstance(arguments, Mapping):
        return None
    return ToolCall(name, arguments, make_id())


def certain_length(text: str, tags: list[str] | tuple[str, ...], *, space_too: bool) -> int:
    """Return how much of `text` cannot begin a tag, nor with `space_too` be whitespace before one."""
    end = len(text)
    for tag in tags:
        for length in range(min(len(tag) - 1, len(text)), 0, -1):
            if text.endswith(tag[:length]):
                end = min(end, len(text) - length)
                break
    return len(text[:end].rstrip()) if space_too else end
