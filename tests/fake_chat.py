"""A model and a chat of the interactive chat's tests: scripted replies, a screen of memory, keys from a pipe."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
from fake_llm import FakeLLM
from mull.chat.history import History
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Event, Usage
from mull.cli.repl.app import Repl
from mull.cli.repl.chat import Chat, Setup
from mull.cli.repl.completion import SlashCompleter
from mull.cli.repl.keys import make_bindings
from mull.cli.repl.log import Log
from mull.cli.repl.model import ChatModel
from mull.cli.repl.prompt import Prompt
from mull.cli.repl.reply_view import Manner
from mull.cli.repl.screen import Look, Screen
from mull.cli.repl.slash import table
from mull.cli.terminal import Terminal
from mull.errors import CorruptFile, HistoryError, ModelNotFound
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

PATIENCE = 60.0  # seconds; only a broken test waits so long

Step = Event | BaseException | Callable[["FakeModel"], None]


class FakeModel(FakeLLM):
    """A step of a script may also be called; a word is a token."""

    def __init__(self, *replies: list[Step], name: str = "fake") -> None:
        super().__init__(*replies)  # type: ignore[arg-type]  # the steps are taken here
        self.name = name
        self.can_think = True
        self.budget: int | None = 512
        self.stopped = threading.Event()
        self.answering = threading.Event()
        self.is_closed = False
        self.seen: Callable[[], str] = str  # what was written to the screen
        self.done = Done(Usage(prompt_tokens=20, completion_tokens=4, cached_tokens=15), "stop", (5, 6), 42)

    def chat(self, request: ChatRequest) -> Iterator[Event]:
        self.requests.append(request)
        self.stopped.clear()
        self.answering.clear()
        for step in self._replies[min(len(self.requests), len(self._replies)) - 1]:
            if isinstance(step, BaseException):
                raise step
            if callable(step):
                step(self)
                continue
            if self.stopped.is_set():
                break
            yield step
        yield self.done

    def end_thinking(self, request_id: str) -> None:
        assert request_id == self.requests[-1].id
        self.answering.set()

    def abort(self, request_id: str) -> None:
        assert request_id == self.requests[-1].id
        self.stopped.set()

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def measure(self, request: ChatRequest) -> tuple[int, int | None]:
        return sum(self.count_tokens(message.content) for message in request.messages), self.budget

    def show(self, part: str) -> str:
        return f"the {part} of {self.name}" if part != "license" else ""

    def close(self) -> None:
        self.is_closed = True


class Screenful(io.StringIO):
    """A terminal of memory: what is written moves the cursor of a virtual screen."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self.screen)

    def write(self, text: str) -> int:
        self._stream.feed(text)
        return super().write(text)

    def isatty(self) -> bool:
        return True

    @property
    def size(self) -> tuple[int, int]:
        return self.screen.columns, self.screen.lines

    @property
    def lines(self) -> list[str]:
        """Every line, those that have left the screen at its top too."""
        gone = [
            "".join(row[x].data for x in range(self.screen.columns)).rstrip()
            for row in self.screen.history.top
        ]
        lines = gone + [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines


class Talk:
    """An interactive chat with a scripted model; typed() types, and says what is on the screen afterwards."""

    def __init__(
        self, model: FakeModel, folder: Path, *, size: tuple[int, int] = (80, 200), color: bool = False
    ) -> None:
        self.out = Screenful(*size)
        self.folder = folder
        self.others: dict[str, FakeModel] = {}
        terminal = Terminal(self.out, self.out, True, True, color)
        self.notes: list[str] = []
        self.log = Log.open(folder / "chat" / "kept.db", self.notes.append, self._complain)
        self.look = Look(color=color, markdown=True)
        self.screen = Screen(self.out, self.look, size=lambda: self.out.size)
        self.model = model
        model.seen = self.out.getvalue
        self.chat = Chat(model, self, self.log, Setup())
        self.repl = Repl(self.chat, self.screen, terminal, Manner())
        self.completer = SlashCompleter(table.summaries(), table.candidates)

    def typed(self, *messages: str, end: str = "\r") -> str:
        """Type messages, each with Enter, and leave; return what the screen shows."""
        with create_pipe_input() as pipe:
            self.repl.leaving = False
            self.repl.prompt = self._prompt(pipe)
            pipe.send_text("".join(message + end for message in messages) + "\x04")
            self.repl.run()
        return self.text

    @property
    def text(self) -> str:
        return "\n".join(self.out.lines)

    @property
    def kept(self) -> History:
        assert self.log.history is not None
        return self.log.history

    def _prompt(self, pipe: object) -> Prompt:
        return Prompt(
            self.look,
            self.folder / "chat" / "typed",
            self.completer,
            make_bindings(self.repl.show_thought, self.repl.complain),
            self.repl.status,
            stdin=pipe,  # type: ignore[arg-type]
            stdout=DummyOutput(),
        )

    def check(self, name: str) -> None:
        if name == "nowhere":
            raise ModelNotFound("there is no nowhere")

    def __call__(self, name: str, num_ctx: int | None) -> ChatModel:
        self.check(name)
        if name == "broken":
            raise CorruptFile("broken is too short")
        model = self.others.get(name) or FakeModel(name=name)
        model.context_length = num_ctx or 2048
        return model

    def _complain(self, error: HistoryError) -> None:
        self.notes.append(error.message)
