"""The live region: what is written stays within its rows, and what stands for good is never touched."""

from __future__ import annotations

import random

import pytest
from fake_chat import Screenful
from mull.cli.repl.screen import Look, Screen, fold, styled
from rich.cells import cell_len
from rich.segment import Segment


def make(columns: int = 20, rows: int = 6, **look: bool) -> tuple[Screen, Screenful]:
    out = Screenful(columns, rows)
    return Screen(out, Look(**look), size=lambda: out.size), out


def test_the_region_is_replaced() -> None:
    screen, out = make()
    screen.update([], [styled("one"), styled("two")])
    screen.update([], [styled("one"), styled("three"), styled("four")])
    assert out.lines == ["one", "three", "four"]
    screen.update([styled("done")], [styled("rest")])
    assert out.lines == ["done", "rest"]
    screen.clear()
    assert out.lines == ["done"]


def test_a_row_that_stays_is_not_written_again() -> None:
    screen, out = make()
    screen.update([], [styled("stays"), styled("goes")])
    at = out.tell()
    screen.update([], [styled("stays"), styled("comes")])
    assert "stays" not in out.getvalue()[at:]
    at = out.tell()
    screen.update([], [styled("stays"), styled("comes")])
    assert out.tell() == at


def test_the_region_is_never_higher_than_the_window() -> None:
    screen, out = make(rows=6)
    screen.say("kept")
    rows = [styled(f"row {number}") for number in range(50)]
    screen.update([], rows)
    assert out.lines == ["kept", *(f"row {number}" for number in range(45, 50))]
    screen.update(rows, [])
    assert out.lines == ["kept", *(f"row {number}" for number in range(50))]


def test_long_lines_are_folded_while_they_are_open() -> None:
    screen, out = make(columns=10)
    screen.update([], [styled("x" * 25), styled("end")])
    screen.update([styled("x" * 25)], [styled("end")])
    assert out.lines == ["x" * 10, "x" * 10, "x" * 5, "end"]


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_updates_leaves_what_was_settled(seed: int) -> None:
    random_ = random.Random(seed)
    columns = random_.choice([8, 20, 40])
    screen, out = make(columns=columns, rows=random_.choice([3, 6, 12]))
    expected: list[str] = []
    for number in range(40):
        finished = [f"{seed}.{number}.{i} " + "y" * random_.randrange(3) for i in range(random_.randrange(3))]
        live = ["z" * random_.randrange(3 * columns) for _ in range(random_.randrange(5))]
        screen.update([styled(line) for line in finished], [styled(line) for line in live])
        expected += [line.rstrip() for line in finished]
    screen.clear()
    # A row's end does not tell whether blanks were there.
    assert "".join(out.lines).replace(" ", "") == "".join(expected).replace(" ", "")


def test_without_color_or_unicode_none_is_sent() -> None:
    screen, out = make(color=False, unicode=False)
    screen.say("• bullet · and │", dim=True)
    assert out.lines == ["* bullet | and |"]
    assert "\x1b[2m" not in out.getvalue()
    screen, out = make()
    screen.say("dim", dim=True)
    assert "\x1b[2mdim" in out.getvalue()


def test_the_cursor_is_hidden_only_while_something_changes() -> None:
    screen, out = make()
    screen.say("said")
    assert "\x1b[?25l" not in out.getvalue()
    screen.update([], [styled("live")])
    assert out.getvalue().count("\x1b[?25l") == 1
    screen.clear()
    assert out.getvalue().endswith("\x1b[?25h")


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_rows_fit_wide_characters_too(width: int) -> None:
    text = "ab漢字c字字字def"
    rows = fold([Segment(text[:4]), Segment(text[4:])], width)
    assert "".join(segment.text for row in rows for segment in row) == text
    if width > 1:
        assert all(sum(cell_len(segment.text) for segment in row) <= width for row in rows)
