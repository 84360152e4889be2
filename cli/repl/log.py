"""A chat's own line to the kept conversations: what is said goes there, and a failure ends the line, not the chat."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from ...chat.history import Conversation, History, Saved, is_database, set_aside
from ...chat.message import Message
from ...chat.stream import Event, Reasoning, Text
from ...errors import HistoryError

_EVERY = 0.1  # seconds between two writes of a reply that is coming
_Result = TypeVar("_Result")


class Log:
    """Writes one conversation at a time; history: None where nothing is to be kept.

    A conversation that another process went on with, or removed, is left to it: this chat goes on in one of its own.
    """

    def __init__(
        self, history: History | None, note: Callable[[str], None], complain: Callable[[HistoryError], None]
    ) -> None:
        self.history = history
        self.conversation: int | None = None
        self._note, self._complain = note, complain
        self._head: int | None = None  # the conversation's last message, as far as this chat knows
        self._set: tuple[str, Mapping[str, object]] = "", {}  # the model and the options that are noted
        self._answer: int | None = None  # the message that is being written
        self._waiting: list[tuple[bool, str]] = []
        self._written = 0.0

    @classmethod
    def open(cls, path: Path, note: Callable[[str], None], complain: Callable[[HistoryError], None]) -> Log:
        """Open the file of conversations; one that is none is put aside, and one that cannot be written left alone."""
        try:
            if not is_database(path):
                aside = set_aside(path)
                if aside is not None:
                    note(f"the kept conversations could not be read; they are now in {aside}")
            return cls(History(path), note, complain)
        except HistoryError as error:
            note(f"{error.message}; this chat is not kept" + (f" ({error.hint})" if error.hint else ""))
            return cls(None, note, complain)

    def start(
        self,
        model: str,
        options: Mapping[str, object],
        *,
        parent: int | None = None,
        head: int | None = None,
        title: str = "",
    ) -> None:
        """Begin a conversation."""
        self.conversation = self._try(
            lambda history: history.begin(model, options, parent=parent, head=head, title=title)
        )
        self._head, self._set = head, (model, dict(options))

    def describe(self, model: str, options: Mapping[str, object]) -> None:
        """Note the model and options that the conversation goes on with."""
        number = self.conversation
        if number is not None and self._set != (model, options):
            self._set = model, dict(options)
            self._try(lambda history: history.describe(number, model, options))

    def ask(self, before: int | None, question: str, model: str) -> int | None:
        """Write a question and the beginning of its answer; return the question's number."""

        def write(history: History) -> tuple[int, int] | None:
            talk = self._own(history)
            if talk is None:
                return None
            both = Message("user", question), Message("assistant")
            asked, answer = history.add(talk, before, *both, model=model, is_open=True)
            return asked, answer

        written = self._try(write)
        if written is None:
            return None
        self._answer, self._waiting, self._written = written[1], [], time.monotonic()
        self._head = written[1]
        return written[0]

    def keep(self, event: Event | None) -> None:
        """Take an event of the reply; what has come is written ten times a second."""
        if self._answer is None:
            return
        if isinstance(event, Text | Reasoning) and event.text:
            self._waiting.append((isinstance(event, Reasoning), event.text))
        if self._waiting and time.monotonic() - self._written >= _EVERY:
            self._write_waiting(self._answer)

    def finish(self, text: str, thinking: str | None, details: Mapping[str, object]) -> int | None:
        """Write the whole reply; return its number."""
        answer, self._answer = self._answer, None
        if answer is not None:
            self._try(lambda history: history.finish(answer, text, thinking, details))
        return answer

    def move(self, head: int | None) -> None:
        """Let the conversation end with another message."""
        self._answer = None

        def write(history: History) -> None:
            talk = self._own(history)
            if talk is not None:
                history.move(talk, head)
                self._head = head

        self._try(write)

    def load(self, conversation: Conversation) -> tuple[Saved, ...]:
        """Go on with a kept conversation; return its messages."""
        self.conversation = conversation.id
        saved = self._try(lambda history: history.messages(conversation.id)) or ()
        self._head = saved[-1].id if saved else None
        self._set = conversation.model, conversation.options
        return saved

    def find(self, number: int) -> Conversation | None:
        """Return a kept conversation."""
        return self._try(lambda history: history.find(number))

    def recent(self, limit: int) -> tuple[Conversation, ...]:
        """Return the conversations that were used last."""
        return self._try(lambda history: history.list(limit)) or ()

    def close(self) -> None:
        """Let go of the file; what has come of a reply is in it."""
        if self._answer is not None and self._waiting:
            self._write_waiting(self._answer)
        self._let_go()

    def _let_go(self) -> None:
        if self.history is not None:
            self.history.close()
        self.history = self.conversation = self._answer = None

    def _write_waiting(self, answer: int) -> None:
        waiting, self._waiting = self._waiting, []
        self._written = time.monotonic()
        self._try(lambda history: _append(history, answer, waiting))

    def _own(self, history: History) -> int | None:
        """Return the conversation to write to, another one if a second process changed or removed this one."""
        talk = self.conversation
        if talk is None:
            return None
        found = history.find(talk)
        if found is not None and found.head == self._head:
            return talk
        parent, what = (None, "was removed") if found is None else (talk, "goes on elsewhere")
        self.conversation = history.begin(*self._set, parent=parent, head=self._head)
        self._note(f"conversation {talk} {what}; this is now conversation {self.conversation}")
        return self.conversation

    def _try(self, action: Callable[[History], _Result]) -> _Result | None:
        if self.history is None:
            return None
        try:
            return action(self.history)
        except HistoryError as error:
            self._let_go()
            self._complain(error)
            return None


def _append(history: History, message: int, pieces: list[tuple[bool, str]]) -> None:
    """Write pieces in order, neighbours of a kind as one."""
    at = 0
    while at < len(pieces):
        end = at
        while end < len(pieces) and pieces[end][0] == pieces[at][0]:
            end += 1
        history.append(message, "".join(text for _, text in pieces[at:end]), thought=pieces[at][0])
        at = end
