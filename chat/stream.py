"""A reply as it arrives: pieces of text in, events out, the same however the text was cut into pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from .events import (
    Done,
    Event,
    Progress,
    Reasoning,
    Text,
    Thinking,
    ToolArguments,
    ToolCallBegin,
    ToolCallEvent,
    Truncated,
    Usage,
)
from .families.family import Family
from .tool_calls.calls import Calls, new_call_id
from .tool_calls.json_calls import HERMES
from .tool_calls.reading import Reading

__all__ = [
    "Done", "Event", "Progress", "Reasoning", "ReplyParser", "StreamParser", "Text", "Thinking", "ToolArguments",
    "ToolCallBegin", "ToolCallEvent", "Truncated", "Usage", "certain_length", "new_call_id",
]  # fmt: skip


class ReplyParser(ABC):
    """Tells the parts of one reply apart; what it is in is a function that takes from what is held.

    tool_errors: why what began like a call of a tool was none; it has come as text.
    """

    def __init__(self, state: Callable[[], bool]) -> None:
        self._state = state
        self._held = ""
        self._events: list[Event] = []
        self.tool_errors: list[str] = []
        self._reading: Reading | None = None  # the call that is under way

    @property
    def thinking(self) -> bool:
        """Whether the reply is within a thought."""
        return self._state == self._thought

    def feed(self, piece: str) -> list[Event]:
        """Take the next piece of the reply; return what is certain by now."""
        self._held += piece
        self._go_on()
        return self._take()

    @abstractmethod
    def flush(self) -> list[Event]:
        """End the reply; return what was held back. An unclosed thought stays a thought."""

    @abstractmethod
    def _thought(self) -> bool:
        """Take what is certain of a thought; return whether there is more to do."""

    @abstractmethod
    def _end_call(self, reading: Reading) -> None:
        """Settle a call that is over, and say what the reply is in now."""

    def _go_on(self) -> None:
        while self._held and self._state():
            pass

    def _call(self) -> bool:
        """Read on in a call; return whether there is more to do."""
        assert self._reading is not None
        return self._read(self._reading, is_last=False)

    def _read(self, reading: Reading, *, is_last: bool) -> bool:
        held, self._held = self._held, ""
        reading.add(held, is_last=is_last)
        if not reading.is_over:
            return False
        self._held, self._reading = reading.rest, None
        self._end_call(reading)
        return bool(self._held)

    def _end_calls(self) -> None:
        """End a call that the reply's end has cut, and whatever it was held up by."""
        while self._reading is not None:
            self._read(self._reading, is_last=True)
            self._go_on()

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events


class StreamParser(ReplyParser):
    """Tell thoughts, answer and tool calls apart in one reply.

        START ──open tag──► THOUGHT ──close tag──► START        (whitespace around both tags is dropped)
        START ──other text──► ANSWER                            (an open tag in an answer is text,
        ANSWER ──tool tag──► CALL ──its end──► ANSWER            unless the family is interleaved)
        THOUGHT ──tool tag──► CALL                              (where a call ends a thought)

    Only what may still become a tag, and the whitespace before it, is held back. What a family puts around its answers
    is left out. A call that cannot be read comes as text from there on, tags included.
    """

    def __init__(
        self,
        family: Family,
        *,
        opened: bool = False,
        tools: Sequence[Mapping[str, object]] | None = None,
        in_call: str | None = None,
        make_id: Callable[[], str] = new_call_id,
    ) -> None:
        """Begin a reply.

        opened: within a thought; tools: those that may be called, None where calls are nothing but text; in_call: the
        text with which the prompt has begun a call.
        """
        # The line break that belongs to some tags does not come where a thought is ended at once.
        self._open = (family.open_tag or "").rstrip()
        self._close = family.close_tag or ""
        self._syntax = family.tools or HERMES
        self._calls = (
            None if tools is None else Calls(tools, lambda event: self._events.append(event), make_id)
        )
        self._tool_opens = () if tools is None else self._syntax.opens
        self._ends = (self._close, *(self._tool_opens[:1] if family.tool_ends_thought else ()))
        self._hidden = family.hidden
        self._interleaved = family.interleaved
        self._fresh = True  # nothing of the answer has come yet
        self._skip_space = opened and family.can_think
        # A model may repeat the tag that its template has already opened.
        self._may_repeat_open = self._skip_space
        super().__init__(self._thought if opened and family.can_think else self._answer)
        if in_call is not None:
            self._begin_call(in_call, "")

    def flush(self) -> list[Event]:
        """End the reply; return what was held back. An unclosed thought stays a thought."""
        self._end_calls()
        if self._state == self._thought:
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
        found = [(at, tag) for tag in self._ends if (at := self._held.find(tag)) >= 0]
        if not found:
            certain = certain_length(self._held, self._ends, space_too=True)
            self._emit(Reasoning, self._held[:certain])
            self._held = self._held[certain:]
            return False
        at, tag = min(found)
        before, self._held = self._held[:at], self._held[at + len(tag) :]
        self._emit(Reasoning, before.rstrip())
        self._state, self._skip_space, self._may_repeat_open = self._answer, True, False
        if tag != self._close:
            self._begin_call(tag, "")
        return True

    def _answer(self) -> bool:
        """Take what is certain of an answer; return whether there is more to do."""
        if self._skip_space:
            self._held = self._held.lstrip()
        if self._begins_bare():
            return True
        tags = [*self._tool_opens]
        if self._open and (self._interleaved or (self._fresh and self._may_open())):
            tags.append(self._open)
        found = [(at, -len(tag), tag) for tag in (*tags, *self._hidden) if (at := self._held.find(tag)) >= 0]
        if not found:
            certain = certain_length(self._held, [*tags, *self._hidden], space_too=bool(tags or self._hidden))
            self._emit(Text, self._held[:certain])
            self._held = self._held[certain:]
            return False
        at, _, tag = min(found)
        before, self._held = self._held[:at], self._held[at + len(tag) :]
        self._emit(Text, before.rstrip())
        if tag in self._tool_opens:
            self._begin_call(tag, before[len(before.rstrip()) :])
        elif tag == self._open:
            self._state, self._skip_space = self._thought, True
        else:
            self._skip_space = self._skip_space or self._fresh
        return True

    def _may_open(self) -> bool:
        """Whether what is held may begin with the open tag, whitespace aside."""
        start = self._held.lstrip()[: len(self._open)]
        return self._open.startswith(start)

    def _begins_bare(self) -> bool:
        """Begin a call if a reply begins like one that nothing announces."""
        start = self._held.lstrip()
        if self._calls is None or not self._syntax.bare or not self._fresh or not start.startswith("{"):
            return False
        space, self._held = self._held[: len(self._held) - len(start)], start
        self._begin_call("", space)
        return True

    def _begin_call(self, opened: str, space: str) -> None:
        assert self._calls is not None
        # What the prompt has written is no part of the reply.
        before = space if self._fresh and self._syntax.in_prompt else space + opened
        self._reading = Reading(self._syntax, opened, self._calls, before)
        self._state = self._call

    def _end_call(self, reading: Reading) -> None:
        self._state = self._answer
        if reading.error is None:
            self._fresh, self._skip_space = False, reading.has_calls or self._skip_space
        else:
            if reading.opened or (self._calls is not None and self._calls.is_open):
                self.tool_errors.append(reading.error)
            self._skip_space = False
            self._emit(Text, reading.raw)

    def _emit(self, kind: type[Text] | type[Reasoning], text: str) -> None:
        if not text:
            return
        self._skip_space = self._may_repeat_open = False
        if kind is Text:
            self._fresh = False
        self._events.append(kind(text))


def certain_length(text: str, tags: list[str] | tuple[str, ...], *, space_too: bool) -> int:
    """Return how much of `text` cannot begin a tag, nor with `space_too` be whitespace before one."""
    end = len(text)
    for tag in tags:
        for length in range(min(len(tag) - 1, len(text)), 0, -1):
            if text.endswith(tag[:length]):
                end = min(end, len(text) - length)
                break
    return len(text[:end].rstrip()) if space_too else end
