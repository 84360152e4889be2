"""`llm history` and what `llm chat` makes of its arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mull.chat.history import History
from mull.chat.message import Message
from mull.cli import main
from mull.cli.chat_files import HISTORY_FILE, chat_folder
from mull.settings import load_console, load_settings

Run = tuple[int, str, str]


@pytest.fixture
def llm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str) -> Run:
        code = main.run_command(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def kept(llm) -> Path:
    """Two conversations, the second a branch of the first."""
    path = chat_folder(load_settings()) / HISTORY_FILE
    with History(path) as history:
        talk = history.begin("pocket", {"system": "Be."})
        _, answer = history.add(
            talk,
            None,
            Message("user", "What is a binary tree?"),
            Message("assistant", "A tree with **two**\x1b[2J arms", thinking="hm"),
        )
        branch = history.begin("other", {}, parent=talk, head=answer, title="aside")
        history.add(branch, answer, Message("user", "And three?"))
    return path


@pytest.mark.parametrize("action", ["list", "search"])
def test_without_anything_kept(llm, action: str) -> None:
    assert llm("history", action, "x")[:2] == (
        0,
        "nothing is kept yet: llm chat MODEL begins a conversation\n",
    )
    assert llm("history", action, "x", "--json")[1] == "[]\n"
    assert llm("history", "show") == (1, "", "error: nothing is kept yet\n")


def test_list(llm, kept: Path) -> None:
    code, out, _ = llm("history")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["ID", "MODEL", "MESSAGES", "MODIFIED", "TITLE"]
    assert lines[1].startswith("2     other     3")
    assert lines[1].endswith("aside (branch of 1)")
    assert "What is a binary tree?" in lines[2]
    assert len(llm("history", "list", "-n", "1")[1].splitlines()) == 2
    assert [talk["id"] for talk in json.loads(llm("history", "list", "--json")[1])] == [2, 1]


def test_search(llm, kept: Path) -> None:
    assert "1  Less than a second ago  assistant: A tree with **two**" in llm("history", "search", "TWO")[1]
    assert "\x1b" not in llm("history", "search", "arms")[1]
    assert "nothing that is kept contains 'four'" in llm("history", "search", "four")[1]
    found = json.loads(llm("history", "search", "three", "--json")[1])
    assert [(row["id"], row["text"]) for row in found] == [(2, "And three?")]
    assert "nothing to search for" in llm("history", "search")[2]


def test_show_and_export(llm, kept: Path) -> None:
    out = llm("history", "show", "1")[1]
    assert out.startswith("# What is a binary tree?\n\nModel: pocket\n\n## System\n\nBe.\n\n## User\n")
    assert "A tree with **two**" in out
    whole = json.loads(llm("history", "export", "2", "--format", "json")[1])
    assert [message["role"] for message in whole["messages"]] == ["user", "assistant", "user"]
    assert whole["messages"][1]["thinking"] == "hm"
    assert llm("history", "show")[1].startswith("# aside")


def test_rm(llm, kept: Path) -> None:
    assert llm("history", "rm")[2].startswith("error: which conversations?")
    assert llm("history", "rm", "1", "7")[2] == "error: there is no conversation 7\nhint: llm history list\n"
    assert llm("history", "rm", "1")[1] == "removed 1\n"
    assert "A tree" in llm("history", "show", "2")[1]
    assert llm("history", "rm", "--all")[1] == "removed 2\n"
    assert len(llm("history")[1].splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("chat",), "error: no model\nhint: llm chat MODEL"),
        (("chat", "--continue"), "error: no conversation is kept yet\nhint: llm chat MODEL begins one"),
        (("chat", "--resume", "3"), "error: no conversation is kept yet"),
        (("chat", "pocket", "--raw"), "error: --raw has no place in a chat"),
        (("chat", "pocket", "--overflow", "newest"), "error: --overflow must be error, oldest or middle"),
        (("chat", "nowhere"), "error: "),
        (("history", "show", "--format", "pdf"), "error: --format must be md or json, not pdf"),
        (("history", "shw"), "error: "),
    ],
)
def test_what_makes_no_sense_is_told(llm, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = llm(*arguments)
    assert code != 0
    assert out == ""
    assert err.startswith(says)


def test_a_kept_conversation_needs_a_terminal(llm, kept: Path) -> None:
    assert "goes on in a terminal only" in llm("chat", "--continue")[2]
    assert "there is no conversation 9" in llm("chat", "--resume", "9")[2]
    assert "there is no conversation 9" in llm("chat", "--resume", "9" * 30)[2]
    assert "exclude each other" in llm("chat", "--resume", "1", "--continue")[2]


@pytest.mark.parametrize(
    ("environment", "unicode"),
    [
        ({"LANG": "de_DE.UTF-8"}, True),
        ({"LANG": "C"}, False),
        ({}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "en_US.utf8", "LC_ALL": "C"}, False),
        ({"LC_CTYPE": "en_GB.UTF-8"}, True),
    ],
)
def test_what_the_terminal_shows(environment: dict[str, str], unicode: bool) -> None:
    assert load_console(environment).unicode is unicode


def test_dumb_terminals_and_editors() -> None:
    assert load_console({"TERM": "dumb"}).dumb
    assert load_console({}).dumb
    assert not load_console({"TERM": "xterm"}).dumb
    assert load_console({"EDITOR": "ed", "VISUAL": "vi"}).editor == "vi"
