"""The messages exchanged with one model: asks it, shows the reply as it arrives, remembers both."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from ..chat.message import Message
from ..chat.request import ChatRequest, Think
from ..chat.stream import Done, Event, Reasoning, Text
from .render import Renderer
from .statistics import Reply
from .terminal import Terminal

if TYPE_CHECKING:
    from ..llm import LLM


@dataclass(frozen=True, slots=True)
class Manner:
    """How to ask and to show: `options` by their users' names; `silent` shows nothing while it arrives."""

    system: str | None = None
    think: Think = "auto"
    options: Mapping[str, object] = field(default_factory=dict)
    hide_thinking: bool = False
    quiet: bool = False
    silent: bool = False


class Conversation:
    """A growing list of messages; each turn begins with all of it, so that the model's cache serves again."""

    def __init__(self, llm: LLM, terminal: Terminal, manner: Manner) -> None:
        self.messages = [Message("system", manner.system)] if manner.system is not None else []
        self._llm = llm
        self._terminal = terminal
        self._manner = manner

    def ask(self, text: str) -> Reply:
        """Say something and show the reply.

        An interrupt ends the reply, and what had come of it stays in the conversation; an error leaves the
        conversation as it was.
        """
        question = Message("user", text)
        manner = self._manner
        request = ChatRequest((*self.messages, question), think=manner.think, options=manner.options)
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
        request = ChatRequest(raw=prompt, think=manner.think, options=manner.options)
        return self._stream(request, _Pieces(), _Pieces())

    def _stream(self, request: ChatRequest, answer: _Pieces, thought: _Pieces) -> Reply:
        started = time.perf_counter()
        manner = self._manner
        renderer = Renderer(self._terminal, hide_thinking=manner.hide_thinking, quiet=manner.quiet)
        done: Done | None = None
        # LLM.chat is a generator: closing it is what stops the engine's work on this request.
        with closing(cast("Generator[Event]", self._llm.chat(request))) as events:
            try:
                for event in events:
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


class _Pieces:
    """A text that grows by its end."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def add(self, part: str) -> None:
        self._parts.append(part)

    @property
    def text(self) -> str:
        return "".join(self._parts)
