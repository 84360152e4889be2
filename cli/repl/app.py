"""The interactive chat: reads a message or a command, asks the model, shows and keeps the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from rich.cells import cell_len

from ...chat.history import Conversation
from ...errors import EngineStopped, MullError
from ..signals import interrupting
from ..statistics import Reply, statistics, thinking_line
from ..terminal import ScreenFilter, Terminal
from .chat import Chat
from .keys import without_quotes
from .model import ChatModel
from .notes import notes_on
from .plain import render_plain
from .prompt import Prompt
from .reply_view import Manner, ReplyView, thought_lines
from .screen import Screen
from .slash import table
from .slash.command import Command
from .status import context_text, rate_text, think_text
from .turn import Turn, take_turn

_FIRST_COLUMN, _SECOND_COLUMN = 32, 24  # the most columns of the first, the least of the second
_LEAVE_HINT = "/bye or Ctrl-D leaves."
_NOT_UTF8 = "that was not UTF-8 text"
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?")


class Repl:
    """A chat on a terminal. `prompt` is set once it is made, for its keys act on the chat."""

    prompt: Prompt

    def __init__(
        self,
        chat: Chat,
        screen: Screen,
        terminal: Terminal,
        manner: Manner,
        *,
        after: Callable[[Reply], None] = lambda reply: None,
    ) -> None:
        self.chat, self.screen, self.terminal, self.manner = chat, screen, terminal, manner
        self.commands: dict[str, Command] = table.COMMANDS
        self.verbose = False
        self.leaving = False
        self._after = after
        self._open_thoughts = manner.open_thoughts
        self._waiting = ""  # what the next prompt begins with

    def run(self) -> None:
        """Talk until the user leaves."""
        while not self.leaving:
            waiting, self._waiting = self._waiting, ""
            try:
                text = self.prompt.read(waiting)
            except EOFError:
                return
            except KeyboardInterrupt:
                if not self.prompt.text:
                    self.note(_LEAVE_HINT)
                continue
            self.take(text)

    def take(self, text: str) -> None:
        """Do what was typed; errors are told, and the chat goes on."""
        try:
            if _SURROGATE.search(text):
                self.terminal.complain(_NOT_UTF8)
            elif table.is_command(text):
                command, argument = table.find(text)
                command.run(self, argument)
            elif without_quotes(text).strip():
                self.ask(without_quotes(text))
        except EngineStopped:
            raise
        except MullError as error:
            self.complain(error)
        except KeyboardInterrupt:
            self.screen.clear()

    def ask(self, text: str, options: Mapping[str, object] | None = None, *, attach: bool = True) -> bool:
        """Ask the model and show its answer; return whether there was any. Raises MullError."""
        # Outside of the reply itself, which has a meaning of its own for Ctrl-C, nothing takes long.
        with interrupting(lambda: True):
            return self._ask(text, options or {}, attach=attach)

    def _ask(self, text: str, options: Mapping[str, object], *, attach: bool) -> bool:
        chat = self.chat
        question = chat.with_files(text) if attach else text
        request = chat.request(question, options)
        _, budget = chat.model.measure(request)
        view = ReplyView(
            self.screen,
            Manner(self._open_thoughts, self.manner.hide_thoughts, self.manner.quiet),
            head=chat.model.name,
            count=chat.model.count_tokens,
            budget=budget,
        )
        asked = chat.begin(question)
        typed = bytearray()
        was_open = view.open_thoughts
        try:
            turn = take_turn(chat.model, request, view, chat.log.keep, typed)
        except (MullError, KeyboardInterrupt):
            chat.forget()
            raise  # whatever else ends the program, and what came is kept as after a crash
        finally:
            self._open_thoughts = view.open_thoughts
            self._waiting = _as_text(typed)
        if not turn.text and turn.stopped:
            chat.forget()
            return False
        reply = None if turn.done is None else Reply(turn.text, turn.thinking, turn.done, turn.seconds)
        chat.keep(question, asked, turn, reply)
        self._tell(turn, reply, show_thought=view.open_thoughts and not was_open and not view.showed_thought)
        return True

    def resume(self, conversation: Conversation) -> None:
        """Go on with a kept conversation, and show how it ended."""
        self._waiting = self.chat.resume(conversation) or ""
        count = len(self.chat.entries)
        self.note(f"conversation {conversation.id}: {conversation.title or 'no title'}, {count} messages")
        if conversation.model != self.chat.model.name:
            self.note(f"it was held with {conversation.model}, and goes on with {self.chat.model.name}")
        answer, question = self.chat.answer, self.chat.question
        if question:
            self.note(f">>> {_cut(question)}")
        if answer is not None:
            self.note(_cut(answer.content))

    def find(self, text: str) -> tuple[Command, str]:
        """Return the command that a line means; raises InvalidRequest."""
        return table.find(text)

    def open_model(self, name: str, num_ctx: int | None) -> None:
        """Put another model, or another context, in the place of this one; raises MullError."""
        self.chat.opener.check(name)
        self.chat.open_model(name, num_ctx)
        for note in self.chat.model.notes:
            self.note(note)

    def show_thought(self) -> None:
        """Print the last thought."""
        answer = self.chat.answer
        thought = answer.thinking if answer is not None else None
        if thought:
            self.screen.update(thought_lines(_safe(thought), self.screen.width, wrap=True), [])
        else:
            self.note("there is no thought to show")

    def status(self) -> list[str]:
        """Return the parts of the status bar, the most important first."""
        chat = self.chat
        model: ChatModel = chat.model
        rate = chat.reply.eval_rate if chat.reply is not None else 0.0
        return [
            model.name,
            context_text(chat.used, model.context_length),
            think_text(chat.setup.options, can_think=model.can_think),
            rate_text(rate),
            f"files to come: {len(chat.attached)}" if chat.attached else "",
        ]

    def say(self, text: str) -> None:
        """Print lines."""
        self.screen.update(render_plain(_safe(text), self.screen.width), [])

    def note(self, text: str) -> None:
        """Print a remark."""
        self.screen.update(render_plain(_safe(text), self.screen.width, style="dim"), [])

    def complain(self, error: MullError) -> None:
        """Print an error, and what to do about it."""
        self.screen.clear()
        self.terminal.complain(error.message, error.hint)

    def table(self, rows: Iterable[tuple[str, str]]) -> None:
        """Print pairs in two columns, or one below the other where there is no room for two."""
        pairs = [(_safe(left), _safe(right)) for left, right in rows]
        width = self.screen.width
        first = min(max((cell_len(left) for left, _ in pairs), default=0), _FIRST_COLUMN)
        for left, right in pairs:
            beside = width >= first + _SECOND_COLUMN and cell_len(left) <= first
            indent = " " * (first + 2 if beside else 4)
            lines = ["".join(s.text for s in row) for row in render_plain(right, width - len(indent))]
            if beside:
                lines = [left.ljust(first) + "  " + lines[0], *(indent + line for line in lines[1:])]
            else:
                lines = [left, *(indent + line for line in lines if line)]
            self.screen.say(*lines)

    def when(self, moment: float) -> datetime:
        """Return a kept time."""
        return datetime.fromtimestamp(moment, UTC)

    def _tell(self, turn: Turn, reply: Reply | None, *, show_thought: bool) -> None:
        """Print what belongs below a reply."""
        if show_thought:
            self.show_thought()
        if turn.stopped:
            self.note("stopped here")
        if reply is None:
            return
        self._after(reply)
        if not self.manner.quiet:
            notes = notes_on(reply, self.chat.model.context_length)
            for note in notes:
                self.note(f"note: {note}")
        if self.verbose:
            for line in ["", *filter(None, [thinking_line(reply)]), *statistics(reply)]:
                self.screen.say(line)


def _as_text(typed: bytes | bytearray) -> str:
    """Return what was typed during a reply as the beginning of the next message."""
    text = _ESCAPES.sub("", bytes(typed).decode("utf-8", "ignore")).replace("\r", "\n")
    return "".join(c for c in text if c.isprintable() or c == "\n").strip("\n")


def _safe(text: str) -> str:
    """Return a text without what a terminal would obey."""
    return ScreenFilter().feed(text)


def _cut(text: str) -> str:
    """Return the end of a text, as much as helps to remember it."""
    lines = text.strip().splitlines()
    kept = "\n".join(lines[-8:])
    return kept if len(kept) <= 1000 else "…" + kept[-1000:]
