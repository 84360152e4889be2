"""The same question to two models, their answers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.segment import Segment

from ....chat.request import ChatRequest
from ....chat.stream import Event, Reasoning, Text
from ....chat.thinking import THINK_OPTIONS
from ....errors import InvalidRequest
from ...terminal import ScreenFilter
from ..completion import models
from ..markdown import render_markdown
from ..model import ChatModel
from ..plain import render_plain
from ..screen import Line, Screen, fold, styled
from ..turn import take_turn
from .command import Command, wrong_usage

if TYPE_CHECKING:
    from ..app import Repl

_NARROW = 50  # columns below which answers stand one below the other


class SideView:
    """Shows two answers as they come, one after the other, beside each other."""

    def __init__(self, screen: Screen, titles: Sequence[str], texts: Sequence[str]) -> None:
        self.texts = [ScreenFilter().feed(text) for text in texts]
        self.at = 0
        self.thinking = False
        self._screen = screen
        self._titles = titles
        self._filter = ScreenFilter()

    def show(self, event: Event) -> None:
        """Take what has come."""
        self.thinking = isinstance(event, Reasoning)
        if isinstance(event, Text):
            self.texts[self.at] += self._filter.feed(event.text)

    def draw(self) -> None:
        """Bring the screen up to date."""
        note = f"{self._titles[self.at]} {'thinks' if self.thinking else 'answers'} ..."
        self._screen.update([], [*self._rows(), styled(note, dim=True)])

    def close(self) -> None:
        """Leave what has come on the screen, until more does."""
        self.thinking = False

    def toggle(self) -> None:
        """Thoughts are not shown here."""

    def finish(self) -> None:
        """Let both answers stand for good."""
        self._screen.update(self._rows(), [])
        self._screen.clear()

    def _rows(self) -> list[Line]:
        width = self._screen.width
        if width < _NARROW:
            stacked: list[Line] = []
            for title, text in zip(self._titles, self.texts, strict=True):
                stacked += [styled(title, style="bold"), *self._lay_out(text, width), []]
            return stacked
        half = (width - 3) // 2
        left, right = (
            [styled(title[:half], style="bold"), *self._lay_out(text, half)]
            for title, text in zip(self._titles, self.texts, strict=True)
        )
        rows = []
        for number in range(max(len(left), len(right))):
            first = left[number] if number < len(left) else []
            second = right[number] if number < len(right) else []
            gap = Segment(" " * (half - Segment.get_line_length(first)))
            rows.append([*first, gap, Segment(" │ "), *second])
        return rows

    def _lay_out(self, text: str, width: int) -> list[Line]:
        lines = (
            render_markdown(text, width)
            if self._screen.look.markdown
            else render_plain(text.rstrip("\n"), width)
        )
        return [row for line in lines for row in fold(line, width)]


def _compare(repl: Repl, argument: str) -> None:
    """Show another model's answer to the last question, or both models' to a new one; nothing of it is kept."""
    name, _, question = argument.partition(" ")
    if not name:
        raise wrong_usage("/compare MODEL [QUESTION]")
    chat = repl.chat
    before, answer = chat.entries, chat.answer
    if not question.strip():
        if chat.question is None or answer is None:
            raise InvalidRequest("nothing was asked yet", hint="/compare MODEL QUESTION")
        question = chat.question
        last = max(at for at, entry in enumerate(before) if entry.message.role == "user")
        said = [entry.message for entry in before[:last]]
    else:
        answer, said = None, [entry.message for entry in before]
    system = [message for message in chat.messages if message.role == "system"]
    request = chat.request(question)
    request = replace(request, messages=(*system, *said, request.messages[-1]))
    other = chat.opener(name, None)
    try:
        view = SideView(repl.screen, (chat.model.name, other.name), (answer.content if answer else "", ""))
        try:
            if answer is None and not _answer(chat.model, request, view):
                return
            view.at = 1
            _answer(other, request, view)
        finally:
            view.finish()
    finally:
        other.close()


def _answer(model: ChatModel, request: ChatRequest, view: SideView) -> bool:
    """Let one model answer; return whether it came to its end."""
    if not model.can_think:
        options = {name: value for name, value in request.options.items() if name not in THINK_OPTIONS}
        request = replace(request, options=options)
    request = replace(request, id=f"{request.id}-{view.at}")
    return not take_turn(model, request, view, lambda event: None).stopped


COMMANDS = (
    Command(
        "/compare",
        "MODEL [QUESTION]",
        "Show another model's answer beside this one's.",
        _compare,
        models,
    ),
)
