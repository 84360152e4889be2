"""Events on terminals and in pipes: what is shown, where, and what a terminal never gets to see."""

from __future__ import annotations

import io
import re

import pytest
from mull.chat.message import ToolCall
from mull.chat.stream import Done, Event, Progress, Reasoning, Text, ToolCallEvent, Usage
from mull.cli.progress import BYTES, TOKENS, ProgressLine, clock_text
from mull.cli.render import Renderer
from mull.cli.terminal import ScreenFilter, Terminal

DONE = Done(Usage(), "stop", (), 1)
THOUGHT = (Reasoning("so"), Reasoning(" then"), Text("ans"), Text("wer"), DONE)


def terminal(*, out_is_tty: bool = True, err_is_tty: bool = True, color: bool = True) -> Terminal:
    return Terminal(io.StringIO(), io.StringIO(), out_is_tty, err_is_tty, color)


def shown(*events: Event, on: Terminal | None = None, **options: bool) -> tuple[str, str]:
    """Return what is on stdout and on stderr after the events."""
    on = on or terminal()
    renderer = Renderer(on, **options)
    for event in events:
        renderer.show(event)
    return on.out.getvalue(), on.err.getvalue()


def screen(text: str) -> list[str]:
    """Return the lines that a terminal shows after carriage returns have done their work."""
    lines = []
    for written in text.split("\n"):
        line: list[str] = []
        for part in written.split("\r"):
            line[: len(part)] = part
        lines.append("".join(line).rstrip())
    return lines


def test_the_thought_is_dim_and_a_blank_line_apart() -> None:
    out, err = shown(*THOUGHT)
    assert out == "answer\n"
    assert err == "\x1b[2mso then\x1b[0m\n\n"


def test_a_thought_that_ends_its_line_gets_one_blank_line_only() -> None:
    assert shown(Reasoning("so\n"), Text("a"), DONE)[1] == "\x1b[2mso\n\x1b[0m\n"


def test_a_thought_in_a_pipe_is_plain() -> None:
    assert shown(*THOUGHT, on=terminal(err_is_tty=False)) == ("answer\n", "so then\n\n")


def test_without_colour_marks_tell_thought_from_answer() -> None:
    _, err = shown(*THOUGHT, on=terminal(color=False))
    assert err == "Thinking...\nso then\n...done thinking.\n\n"


def test_a_hidden_thought_leaves_nothing_on_the_screen() -> None:
    out, err = shown(*THOUGHT, hide_thinking=True)
    assert (out, screen(re.sub(r"\x1b\[\d?m", "", err))) == ("answer\n", [""])
    assert "thinking" in err
    assert shown(*THOUGHT, on=terminal(err_is_tty=False), hide_thinking=True) == ("answer\n", "")


def test_a_thought_without_an_answer_leaves_the_terminal_plain() -> None:
    on = terminal()
    renderer = Renderer(on)
    renderer.show(Reasoning("so"))
    renderer.close()
    renderer.close()
    assert on.out.getvalue() == ""
    assert on.err.getvalue() == "\x1b[2mso\x1b[0m\n\n"


def test_the_answer_ends_with_one_line_break() -> None:
    assert shown(Text("a\n"), DONE)[0] == "a\n"
    assert shown(DONE) == ("", "")


def test_a_tool_call_is_shown_as_a_line() -> None:
    assert shown(Text("hm"), ToolCallEvent(ToolCall("add", {"a": 1})), DONE)[0].endswith('add({"a": 1})\n')


EVIL = "a\x1b[31mred\x1b]0;title\x07b\x1b]8;;x\x1b\\c\x9b2Jd\x08e\rf\tg\nh\x1bPq\n\x7f\x00i\x1bc"


def test_a_terminal_gets_no_control_characters() -> None:
    assert ScreenFilter().feed(EVIL) == "aredbcdef\tg\nh\ni"


@pytest.mark.parametrize("cut", range(1, len(EVIL)))
def test_the_filter_does_not_care_how_text_is_cut(cut: int) -> None:
    one = ScreenFilter()
    assert one.feed(EVIL[:cut]) + one.feed(EVIL[cut:]) == ScreenFilter().feed(EVIL)


def test_text_is_cleaned_for_terminals_only() -> None:
    events = (Reasoning("x\x1b[1m"), Text("a\x1b[2J"), DONE)
    assert shown(*events) == ("a\n", "\x1b[2mx\x1b[0m\n\n")
    piped = terminal(out_is_tty=False, err_is_tty=False)
    assert shown(*events, on=piped) == ("a\x1b[2J\n", "x\x1b[1m\n\n")


class Clock:
    """A clock that goes on when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_long_prompt_shows_how_far_it_is_and_then_nothing() -> None:
    on, clock = terminal(), Clock()
    renderer = Renderer(on, clock=clock)
    renderer.show(Progress(0, 4096))
    assert on.err.getvalue() == ""
    clock.now += 2
    renderer.show(Progress(1024, 4096))
    (line,) = screen(on.err.getvalue())
    assert line == "reading  25%  [####              ]  1,024/4,096 tokens  512 tokens/s  0:06 left"
    renderer.show(Text("a"))
    assert screen(on.err.getvalue()) == [""]


def test_cached_tokens_do_not_count_as_speed() -> None:
    on, clock = terminal(), Clock()
    line = ProgressLine(on, "x", TOKENS, clock=clock)
    line.update(1000, 4000)
    clock.now += 1
    line.update(1100, 4000)
    assert screen(on.err.getvalue())[0].endswith("1,100/4,000 tokens  100 tokens/s  0:29 left")


@pytest.mark.parametrize("columns", [1, 10, 20, 40, 60, 200])
def test_narrow_terminals_never_wrap(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terminal, "width", columns)
    on, clock = terminal(), Clock()
    line = ProgressLine(on, "loading", BYTES, clock=clock)
    line.announce()
    line.update(10**8, 10**9)
    clock.now += 1
    line.update(3 * 10**8, 10**9)
    longest = max(len(part) for part in on.err.getvalue().split("\r"))
    assert longest <= max(0, columns - 1)
    assert (longest > 60) == (columns == 200)


def test_no_progress_in_a_pipe_or_where_it_is_not_wanted() -> None:
    for on, enabled in ((terminal(err_is_tty=False), True), (terminal(), False)):
        clock = Clock()
        line = ProgressLine(on, "x", TOKENS, enabled=enabled, clock=clock)
        line.announce()
        clock.now += 9
        line.update(1, 2)
        line.clear()
        assert on.err.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (750, "12:30"), (3723, "1:02:03")]
)
def test_time_left_is_written_as_a_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_errors_are_one_line_each_and_harmless() -> None:
    on = terminal(color=False)
    on.complain("bad\nname \x1b[2J", "try\nthis")
    assert on.err.getvalue() == "error: bad name \\x1b[2J\nhint: try this\n"
