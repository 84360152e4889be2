"""The messages exchanged with one model: asks it, shows the reply as it arrives, remembers both."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from ..chat.message import Message
from ..chat.request import ChatRequest
from ..chat.stream import Done, Event, Reasoning, Text
from ..runtime.grammar.constraint import Constraint
from .keys import CTRL_T, acting_on
from .render import Renderer
from .signals import interrupting
from .statistics import Reply
from .terminal import Terminal

if TYPE_CHECKING:
    from ..llm import LLM


@dataclass(frozen=True, slots=True)
class Manner:
    """How to ask and to show: `options` by their users' names; `silent` shows nothing while it arrives.

    format: what answers must look like.
    """

    system: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    hide_thinking: bool = False
    quiet: bool = False
    silent: bool = False
    format: Constraint | None = None


class Conversation:
    """A growing list of messages; each turn begins with all of it, so that the model's cache serves again."""

    def __init__(self, llm: LLM, terminal: Terminal, manner: Manner) -> None:
        self.messages = [Message("system", manner.system)] if manner.system is not None else []
        self._llm = llm
        self.terminal = terminal
        self._manner = manner

    def ask(self, text: str) -> Reply:
        """Say something and show the reply.

        An interrupt ends the reply, and what had come of it stays in the conversation; an error leaves the
        conversation as it was.
        """
        question = Message("user", text)
        manner = self._manner
        request = ChatRequest(
            (*self.messages, question), options=manner.options, id=uuid.uuid4().hex, format=manner.format
        )
        answer, thought = _Pieces(), _Pieces()
        try:
            reply = self._stream(request, answer, thought)
        except KeyboardInterrupt:
            # Templates want question and answer in turn: a question without any answer is forgotten.
            if answer.text:
                self.messages += [question, Message("assistant", answer.text, thinking=thought.text or None)]
            raise
        self.messages += [question, Message("assistant", answer.text, thinking=thought.text or None)]
        return reply

    def ask_raw(self, prompt: str) -> Reply:
        """Let the model continue a prompt as it is; nothing is remembered."""
        manner = self._manner
        request = ChatRequest(raw=prompt, options=manner.options, id=uuid.uuid4().hex, format=manner.format)
        return self._stream(request, _Pieces(), _Pieces())

    def ask_many(self, text: str, count: int, *, raw: bool = False) -> list[Reply]:
        """Ask the same `count` times at once and return all replies, none of them shown; nothing is remembered.

        A seed that is set is the first reply's, and one more for each that follows.
        """
        seed = self._manner.options.get("seed")
        messages = () if raw else (*self.messages, Message("user", text))
        with ExitStack() as stack:
            streams = []
            for index in range(count):
                options = dict(self._manner.options)
                if isinstance(seed, int) and seed >= 0:
                    options["seed"] = seed + index
                request = ChatRequest(
                    messages, options=options, raw=text if raw else None, format=self._manner.format
                )
                events = cast("Generator[Event]", self._llm.chat(request))
                streams.append(stack.enter_context(closing(events)))
            return [_gather(events) for events in streams]

    def _stream(self, request: ChatRequest, answer: _Pieces, thought: _Pieces) -> Reply:
        started = time.perf_counter()
        manner = self._manner
        renderer = Renderer(self.terminal, hide_thinking=manner.hide_thinking, quiet=manner.quiet)
        done: Done | None = None
        is_thinking = has_stopped = False

        def answer_now() -> bool:
            """End the thought, once; False where there is none to end."""
            nonlocal has_stopped
            if not is_thinking or has_stopped or request.id is None:
                return False
            has_stopped = True
            self._llm.end_thinking(request.id)
            return True

        # LLM.chat is a generator: closing it is what stops the engine's work on this request.
        with (
            closing(cast("Generator[Event]", self._llm.chat(request))) as events,
            interrupting(answer_now),
            acting_on({CTRL_T: answer_now}),
        ):
            try:
                for event in events:
                    is_thinking = isinstance(event, Reasoning)
                    if isinstance(event, Text):
                        answer.add(event.text)
                    elif isinstance(event, Reasoning):
                        thought.add(event.text)
                    elif isinstance(event, Done):
                        done = event
                    if not manner.silent:
                        renderer.show(event)
            finally:
                if not manner.silent:
                    renderer.close()
        assert done is not None
        seconds = time.perf_counter() - started + done.usage.load_ms / 1000
        return Reply(answer.text, thought.text, done, seconds)


def _gather(events: Generator[Event]) -> Reply:
    """Wait for a whole reply."""
    started = time.perf_counter()
    answer, thought = _Pieces(), _Pieces()
    done: Done | None = None
    for event in events:
        if isinstance(event, Text):
            answer.add(event.text)
        elif isinstance(event, Reasoning):
            thought.add(event.text)
        elif isinstance(event, Done):
            done = event
    assert done is not None
    return Reply(answer.text, thought.text, done, time.perf_counter() - started)


class _Pieces:
    """A text that grows by its end."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def add(self, part: str) -> None:
        self._parts.append(part)

    @property
    def text(self) -> str:
        return "".join(self._parts)
