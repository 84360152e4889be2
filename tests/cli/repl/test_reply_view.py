"""A reply on the screen: reading, thinking, answering; and that nothing is written twice or lost."""

from __future__ import annotations

import pytest
from fake_chat import Screenful
from mull.chat.message import ToolCall
from mull.chat.stream import Progress, Reasoning, Text, ToolCallEvent
from mull.cli.repl.reply_view import Manner, ReplyView
from mull.cli.repl.screen import Look, Screen


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Shown:
    """A view on a screen of memory."""

    def __init__(self, size: tuple[int, int] = (60, 24), *, budget: int | None = 512, **how) -> None:
        look = {key: how.pop(key) for key in ("markdown", "unicode", "color") if key in how}
        self.out = Screenful(*size)
        self.clock = Clock()
        self.view = ReplyView(
            Screen(self.out, Look(**look), size=lambda: self.out.size),
            Manner(**how),
            head="model",
            count=lambda text: len(text.split()),
            budget=budget,
            clock=self.clock,
        )

    def show(self, *events) -> list[str]:
        for event in events:
            self.view.show(event)
            self.clock.now += 0.1
        self.view.draw()
        return self.out.lines

    def close(self) -> list[str]:
        self.view.close()
        return self.out.lines


def test_how_far_the_prompt_is_read_is_told_once_it_takes_long() -> None:
    shown = Shown()
    assert shown.show(Progress(100, 3000)) == []
    shown.clock.now = 2.0
    assert shown.show(Progress(1000, 3000)) == ["reading 33%  1,000/3,000 tokens · 4 s left"]
    assert shown.show(Text("hi"))[0] == "hi"
    assert shown.close() == ["hi"]


def test_a_thought_is_folded_and_its_budget_shown() -> None:
    shown = Shown()
    lines = shown.show(Reasoning("one two\nthree "), Reasoning("four"))
    assert lines == ["thinking 4/512 · one two three four", "Ctrl-T answers now · Ctrl-O shows the thought"]
    shown.show(Text("So **this**."))
    lines = shown.close()
    assert lines[0].startswith("thought for 4 tokens, 0.2 s · Ctrl-O shows it")
    assert lines[1:] == ["", "So this."]


def test_a_thought_that_is_opened_stays() -> None:
    shown = Shown()
    shown.show(Reasoning("one\ntwo"))
    shown.view.toggle()
    assert shown.show(Reasoning(" three"))[:2] == ["one", "two three"]
    shown.show(Text("Yes."))
    assert shown.close() == ["one", "two three", "", "Yes."]
    assert shown.view.showed_thought


def test_a_long_open_thought_shows_its_end() -> None:
    shown = Shown(open_thoughts=True)
    thought = "\n".join(f"step {number}" for number in range(40))
    lines = shown.show(Reasoning(thought))
    assert lines[-2] == "step 39"
    assert len(lines) == 13
    shown.show(Text("Done."))
    assert shown.close() == [*thought.splitlines(), "", "Done."]


def test_hidden_thoughts_leave_nothing() -> None:
    shown = Shown(hide_thoughts=True)
    assert shown.show(Reasoning("secret")) == ["thinking 1/512 · Ctrl-T answers now"]
    shown.show(Text("open"))
    assert shown.close() == ["open"]


def test_thoughts_between_answers() -> None:
    shown = Shown()
    shown.show(Reasoning("a"), Text("one"), Reasoning("b"), Text("two"))
    lines = shown.close()
    assert [line for line in lines if not line.startswith("thought for")] == ["", "one", "", "", "two"]


@pytest.mark.parametrize("size", [1, 5, 100])
@pytest.mark.parametrize(("columns", "rows"), [(60, 24), (20, 8), (60, 3)])
def test_an_answer_looks_the_same_however_it_came(size: int, columns: int, rows: int) -> None:
    answer = "# Head\n\nSome *text* that goes on for a while.\n\n- a\n- b\n\n```sh\nls -l\n\ncat x\n```\n\nThe end."
    whole = Shown((columns, 200))
    whole.show(Text(answer))
    expected = whole.close()
    shown = Shown((columns, rows))
    for start in range(0, len(answer), size):
        shown.show(Text(answer[start : start + size]))
    assert shown.close() == expected
    assert expected[:2] == ["Head", ""]


def test_what_is_settled_is_written_once() -> None:
    shown = Shown()
    for number in range(200):
        shown.show(Text(f"Paragraph {number} of many.\n\n"))
    shown.close()
    assert shown.out.getvalue().count("Paragraph 7 ") <= 2
    assert len(shown.out.getvalue()) < 60 * 200 * 4


def test_plain_text_stays_as_it_is() -> None:
    shown = Shown(markdown=False, color=False)
    answer = "# no head\n\n\n*stars*\n  indented\n"
    for character in answer:
        shown.show(Text(character))
    assert shown.close() == ["# no head", "", "", "*stars*", "  indented"]
    assert "\x1b[1m" not in shown.out.getvalue()


def test_a_model_cannot_write_escape_sequences() -> None:
    shown = Shown()
    shown.show(Reasoning("a\x1b[31m b"), Text("x\x1b]0;title\x07y\x9b2Jz\r\x08"))
    assert shown.close()[-1] == "xyz"


def test_a_call_of_a_tool_is_a_line() -> None:
    shown = Shown()
    shown.show(Text("Let me see."), ToolCallEvent(ToolCall("look", {"at": "it"}, "1")))
    assert shown.close() == ["Let me see.", "", 'look({"at": "it"})']


def test_a_window_that_changes_its_width_loses_nothing() -> None:
    shown = Shown((60, 24))
    words = [f"word{number}" for number in range(60)]
    for number, word in enumerate(words):
        shown.show(Text(word + " "))
        if number == 30:
            shown.out.screen.resize(24, 20)
        if number == 45:
            shown.out.screen.resize(24, 60)
    text = " ".join(shown.close())
    assert text.split()[-60:] == words


def test_narrow_and_tiny_windows() -> None:
    for size in ((2, 2), (5, 3), (20, 5)):
        shown = Shown(size)
        shown.show(Progress(1, 100))
        shown.show(Reasoning("thinking about it"), Text("An answer with 漢字 and `code`."))
        assert "".join("".join(shown.close()).split()).endswith("Ananswerwith漢字andcode.")
