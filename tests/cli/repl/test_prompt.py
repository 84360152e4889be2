"""Where messages are typed: several lines, pastes, the editor, what was typed before."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from fake_chat import Talk
from mull.chat.stream import Reasoning, Text
from mull.cli.repl.input_history import InputHistory
from mull.cli.repl.keys import is_unfinished, without_quotes
from mull.cli.repl.status import context_text, full_note, status_text, think_text


def asked(chat: Talk) -> list[str]:
    return [request.messages[-1].content for request in chat.model.requests]


def test_several_lines_between_quotes(talk) -> None:
    chat: Talk = talk()
    chat.typed('"""one', "", 'two"""', '"""three"""', 'say """ to me')
    assert asked(chat) == ["one\n\ntwo", "three", 'say """ to me']
    assert not is_unfinished('say """')
    assert without_quotes('"""') == '"""'


def test_alt_enter_begins_a_line(talk) -> None:
    chat: Talk = talk()
    chat.typed("one\x1b\rtwo")
    assert asked(chat) == ["one\ntwo"]


def test_a_paste_is_one_text(talk) -> None:
    chat: Talk = talk()
    chat.typed("see \x1b[200~/bye\r\ntwo\n\x1b[201~!")
    assert asked(chat) == ["see /bye\ntwo\n!"]


def test_ctrl_c_drops_a_line_and_then_tells_how_to_leave(talk) -> None:
    chat: Talk = talk()
    screen = chat.typed("gone\x03", "\x03", "said")
    assert asked(chat) == ["said"]
    assert "/bye or Ctrl-D leaves." in screen


def test_ctrl_o_shows_the_last_thought(talk) -> None:
    chat: Talk = talk([Reasoning("deep\nthought"), Text("yes")])
    assert "no thought to show" in chat.typed("\x0f")
    chat.chat.entries = []
    chat.typed("is it?")
    assert "deep" not in chat.text
    assert "deep\nthought" in chat.typed("\x0f")


def test_vi_keys(talk) -> None:
    chat: Talk = talk()
    chat.typed("/set keys vi")
    assert chat.repl.prompt.vi
    chat.repl.prompt.vi = False
    assert not chat.repl.prompt.vi


def test_the_file_of_what_was_typed(tmp_path: Path) -> None:
    path = tmp_path / "chat" / "typed"
    history = InputHistory(path)
    history.append_string("größe\nzwei")
    history.append_string("  ")
    history.append_string("x" * 100_000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(InputHistory(path).load_history_strings()) == ["größe\nzwei"]
    with path.open("ab") as file:
        file.write(b'\n"cut sho\xff\n[1, 2]\n"\\u001b[2J"\n' + b"[" * 100_000)
    InputHistory(path).append_string("after")
    assert list(InputHistory(path).load_history_strings()) == ["after", "größe\nzwei"]


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "typed"
    history = InputHistory(path)
    for number in range(2100):
        history.store_string(str(number))
    assert next(iter(history.load_history_strings())) == "2099"
    assert len(path.read_bytes().split()) == 1000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    history = InputHistory(tmp_path / "file" / "typed")
    history.append_string("said")
    assert list(history.load_history_strings()) == []


def test_surrogates_are_not_sent(talk) -> None:
    chat: Talk = talk()
    chat.repl.take("gr\udcfc\udcdfe")
    assert "that was not UTF-8 text" in chat.text
    assert asked(chat) == []


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (80, "pocket · 64/2,048 3% · think auto"),
        (25, "pocket · 64/2,048 3%"),
        (10, "pocket"),
        (4, "poc…"),
        (1, "…"),
    ],
)
def test_the_status_bar_fits(width: int, text: str) -> None:
    assert status_text(["pocket", context_text(64, 2048), "", "think auto"], width) == text


def test_what_the_status_bar_says() -> None:
    assert think_text({"think": "low"}, can_think=True) == "think low"
    assert think_text({"think": "low", "think_budget": 7}, can_think=True) == "think 7"
    assert think_text({}, can_think=False) == ""
    assert full_note(84, 100) is None
    assert (full_note(85, 100) or "").startswith("the context is 85% full, 15 tokens are left")
