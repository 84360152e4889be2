"""A reply of several messages, each with a header that says what it is: pieces of text in, events out.

    START ──header begins──► HEADER ──its end──► THOUGHT, ANSWER or neither
      │ other text ──► ANSWER                       │ end of the message, or the next header
      └─────────────────────◄──────────────────────┘

Only what may still become a header or an end is held back; headers are not shown. A message to a tool is a call, or
not shown either where no tools were offered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from .events import Event, Reasoning, Text
from .families.family import Family
from .stream import ReplyParser, certain_length
from .tool_calls.calls import Calls, new_call_id
from .tool_calls.reading import Reading

_RECIPIENT = " to="
_NAME = re.compile(r" to=([^\s<]+)")
_LONGEST_HEADER = 400  # characters; what is longer is none


class MessageParser(ReplyParser):
    """Tell thoughts and answers apart in a reply that begins after its first header's beginning.

    opened: it begins within a thought.
    """

    def __init__(
        self,
        family: Family,
        *,
        opened: bool = False,
        tools: Sequence[Mapping[str, object]] | None = None,
        make_id: Callable[[], str] = new_call_id,
    ) -> None:
        """Begin a reply; tools: those that may be called, None where messages to tools are not shown."""
        self._family = family
        self._calls = (
            None if tools is None else Calls(tools, lambda event: self._events.append(event), make_id)
        )
        self._open = family.open_tag or ""
        self._close = family.close_tag or ""
        self._begins = family.header_begins
        self._ends = family.header_ends
        self._is_first = not opened
        self._skip_space = opened
        super().__init__(self._thought if opened else self._start)

    def flush(self) -> list[Event]:
        """End the reply; return what was held back. An unclosed thought stays a thought."""
        self._end_calls()
        if self._state == self._thought:
            self._emit(Reasoning, self._held)
        elif self._state == self._answer or (self._state == self._start and not self._is_header()):
            self._emit(Text, self._held)
        self._held = ""
        return self._take()

    def _start(self) -> bool:
        """Wait until it is clear whether a header comes; return whether there is more to do."""
        starts = (*self._begins, *self._ends, *((_RECIPIENT,) if self._is_first else ()))
        if any(self._held.startswith(start) for start in starts):
            self._state = self._header
        elif any(start.startswith(self._held) for start in starts):
            return False
        else:
            self._state, self._skip_space = self._answer, False
        return True

    def _is_header(self) -> bool:
        """Whether what is held begins like a header, so that it is one that was cut off."""
        return any(self._held.startswith(text[:2]) for text in (*self._begins, *self._ends))

    def _header(self) -> bool:
        """Wait for a header's end, and see what it is the header of; return whether there is more to do."""
        found = [at + len(end) for end in self._ends if (at := self._held.find(end)) >= 0]
        if not found:
            if len(self._held) > _LONGEST_HEADER:
                self._state, self._skip_space = self._answer_only, False
                return True
            return False
        header, self._held = self._held[: min(found)], self._held[min(found) :]
        self._is_first = False
        if header.endswith(self._open):
            self._state = self._thought
        elif (opened := self._called(header)) is not None:
            self._begin_call(opened, header)
        else:
            self._state = self._answer if self._is_answer(header) else self._unseen
        self._skip_space = True
        return True

    def _called(self, header: str) -> str | None:
        """Return what of a header says that a call follows; None if nothing does."""
        if self._calls is None or self._family.tools is None:
            return None
        named = _NAME.search(header)
        if named is not None:
            return named[1]
        return next((text for text in self._family.tools.opens if header.endswith(text)), None)

    def _begin_call(self, opened: str, header: str) -> None:
        assert self._calls is not None
        assert self._family.tools is not None
        self._reading = Reading(self._family.tools, opened, self._calls, header)
        self._state = self._call

    def _end_call(self, reading: Reading) -> None:
        self._state = self._start
        if reading.error is not None:
            self.tool_errors.append(reading.error)
            self._state, self._skip_space = self._answer, False
            self._emit(Text, reading.raw)

    def _is_answer(self, header: str) -> bool:
        return _RECIPIENT not in header and any(mark in header for mark in self._family.answer_marks)

    def _thought(self) -> bool:
        return self._body(Reasoning)

    def _answer(self) -> bool:
        return self._body(Text)

    def _unseen(self) -> bool:
        return self._body(None)

    def _answer_only(self) -> bool:
        """Show everything: this is none of the family's messages."""
        self._emit(Text, self._held)
        self._held = ""
        return False

    def _body(self, kind: type[Text] | type[Reasoning] | None) -> bool:
        """Take what is certain of a message; return whether there is more to do."""
        if self._skip_space:
            self._held = self._held.lstrip()
            if not self._held:
                return False
        tags = (self._close, *self._begins)
        found = [(at, tag) for tag in tags if (at := self._held.find(tag)) >= 0]
        if not found:
            certain = certain_length(self._held, tags, space_too=kind is Reasoning)
            self._emit(kind, self._held[:certain])
            self._held = self._held[certain:]
            return False
        at, tag = min(found)
        before = self._held[:at]
        self._emit(kind, before.rstrip() if kind is Reasoning else before)
        # A header that comes without an end before it is not taken away.
        self._held = self._held[at + len(tag) :] if tag == self._close else self._held[at:]
        self._state, self._is_first = self._start, False
        return True

    def _emit(self, kind: type[Text] | type[Reasoning] | None, text: str) -> None:
        if text:
            self._skip_space = False
            if kind is not None:
                self._events.append(kind(text))
