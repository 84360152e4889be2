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
        transcript = _Transcript()
        try:
            reply = self._stream(request, transcript)
        except KeyboardInterrupt:
            # Templates want question and answer in turn: a question without any answer is forgotten.
            if transcript.answer:
                self.messages += [question, transcript.message]
            raise
        self.messages += [question, transcript.message]
        return reply

    def ask_raw(self, prompt: str) -> Reply:
        """Let the model continue a prompt as it is; nothing is remembered."""
        manner = self._manner
        request = ChatRequest(raw=prompt, options=manner.options, id=uuid.uuid4().hex, format=manner.format)
        return self._stream(request, _Transcript())

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

    def _stream(self, request: ChatRequest, transcript: _Transcript) -> Reply:
        started = time.perf_counter()
        manner = self._manner
        renderer = Renderer(self.terminal, hide_thinking=manner.hide_thinking, quiet=manner.quiet)
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
                    transcript.add(event)
                    if not manner.silent:
                        renderer.show(event)
            finally:
                if not manner.silent:
                    renderer.close()
        return transcript.reply(time.perf_counter() - started, after_loading=True)


def _gather(events: Generator[Event]) -> Reply:
    """Wait for a whole reply."""
    started = time.perf_counter()
    transcript = _Transcript()
    for event in events:
        transcript.add(event)
    return transcript.reply(time.perf_counter() - started)


class _Transcript:
    """What has come of a reply."""

    def __init__(self) -> None:
        self._answer: list[str] = []
        self._thought: list[str] = []
        self._done: Done | None = None

    def add(self, event: Event) -> None:
        """Keep what an event says."""
        if isinstance(event, Text):
            self._answer.append(event.text)
        elif isinstance(event, Reasoning):
            self._thought.append(event.text)
        elif isinstance(event, Done):
            self._done = event

    @property
    def answer(self) -> str:
        """The answer so far."""
        return "".join(self._answer)

    @property
    def message(self) -> Message:
        """What the conversation keeps of it."""
        return Message("assistant", self.answer, thinking="".join(self._thought) or None)

    def reply(self, seconds: float, *, after_loading: bool = False) -> Reply:
        """Return the whole reply, which took so long, and before it the loading."""
        assert self._done is not None
        seconds += self._done.usage.load_ms / 1000 if after_loading else 0.0
        return Reply(self.answer, "".join(self._thought), self._done, seconds)
