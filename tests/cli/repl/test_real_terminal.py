"""The program itself on a terminal: a whole session with the demo model, and what terminals may do to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_hub import FakeHub, serving
from mull.models.pocket import model_path
from virtual_terminal import VirtualTerminal, private

Run = Callable[..., VirtualTerminal]
# 509 is the demo model's token that ends a thought.
ENDLESS_THOUGHT = ('logit_bias {"509": -100}', "think_soft 0", "think_loop off")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return what starts the program on a terminal; whatever still runs afterwards is ended."""
    monkeypatch.chdir(tmp_path)
    started: list[VirtualTerminal] = []

    def start(*arguments: str, size: tuple[int, int] = (80, 40), **environment: str) -> VirtualTerminal:
        started.append(VirtualTerminal(list(arguments), private(tmp_path) | environment, size))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


def history(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "mull.cli.main", "history", *arguments]
    return subprocess.run(
        command, env={**os.environ, **private(folder)}, capture_output=True, text=True, check=True
    ).stdout


def test_a_session(run: Run, tmp_path: Path) -> None:
    """Pull, chat, think, stop, edit, regen, branch, export, quit, continue; and every other command on the way."""
    with serving(FakeHub()) as hub:
        hub.add("someone/pocket-GGUF", **{"pocket-Q8_0.gguf": model_path().read_bytes()})
        pulling = run("pull", "someone/pocket-GGUF", "--as", "pocket-pulled", HF_ENDPOINT=hub.url)
        assert pulling.end() == 0
        assert "success" in pulling.text
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/20 . 22/30 + 33/" "$1"\n')
    editor.chmod(0o755)
    (tmp_path / "facts.txt").write_text("one fact\n")
    at = run("chat", "pocket-pulled", "--temperature", "0", EDITOR=str(editor), VISUAL="")

    at.type("What is 20 + 22?")
    at.wait("thought for ")
    at.wait(at.is_ready)
    assert "\n42\n" in at.text
    at.wait(lambda: any(line.startswith("pocket-pulled · ") and "tok/s" in line for line in at.lines))
    at.send("\x0f")  # Ctrl-O
    at.wait(lambda: at.text.count("20+22") >= 1)

    for setting in ENDLESS_THOUGHT:
        at.type(f"/set parameter {setting}")
    at.type("What is 5 + 6?")
    at.wait("Ctrl-T answers now")
    at.send("\x14")  # Ctrl-T
    at.wait(lambda: at.text.count("thought for ") == 2)  # it answers now
    at.send("\x03")
    at.wait(at.is_ready)
    at.type("/undo")
    at.wait("taken back: What is 5 + 6?")
    at.type("What is 7 + 8?")
    at.wait(lambda: any("Ctrl-T answers now" in line for line in at.lines))
    before = at.text.count("thought for ")
    at.send("\x03")  # the first Ctrl-C: answer now
    at.wait(lambda: at.text.count("thought for ") > before)
    at.send("\x03")
    at.wait(at.is_ready)
    at.type("/undo")
    at.wait("taken back: What is 7 + 8?")
    at.type("/set parameter logit_bias {}")

    at.type("/think off")
    at.type("/set parameter ignore_eos true")
    at.type("What is 1 + 1?")
    at.wait("tok/s · Ctrl-C stops")
    at.send("\x03")
    at.wait("stopped here")
    at.type("/undo")
    at.type("/set parameter ignore_eos false")
    at.type("/think auto")

    at.type("/edit")
    at.wait("\n63\n")
    at.type("/regen 5")
    at.wait(lambda: at.text.count("\n63\n") == 2)
    at.type("/branch aside")
    at.wait("this is now conversation 2")
    at.type("What is 2 + 3?")
    at.wait("\n5\n")
    at.type("/export json out.json")
    at.wait("written to out.json")

    for command, shows in (
        ("/?", "/compare MODEL"), ("/show info", "qwen3"), ("/tokens", "user: What is 2 + 3?"), ("/ctx", "left: "),
        ("/stats", "prompt reused:"), ("/copy", "copy the answer"), ("/read facts.txt", "facts.txt: "),
        ("/system Be brief.", "the system message is set"), ("/format choice:yes,no", "answers keep to that format"),
        ("/format off", "answers are free"), ("/regn", "did you mean /regen?"), ("/resume", "aside"),
        ("/save mine", "created mine"), ("/compare pocket", "pocket:latest"), ("/clear", "a new conversation begins"),
        ("/load pocket", "pocket is loaded"), ("/resume 2", "conversation 2: aside"),
    ):  # fmt: skip
        at.type(command)
        at.wait(shows if command != "/compare pocket" else lambda: " │ 5" in at.text)
    at.type("/bye")
    assert at.end() == 0

    messages = json.loads((tmp_path / "out.json").read_text())["messages"]
    assert [message["content"] for message in messages] == ["What is 30 + 33?", "63", "What is 2 + 3?", "5"]
    listed = json.loads(history(tmp_path, "list", "--json"))
    assert [(talk["id"], talk["parent"], talk["messages"]) for talk in listed] == [(2, 1, 4), (1, None, 2)]
    assert "What is 30 + 33?" in history(tmp_path, "search", "30 +")

    again = run("chat", "--continue")
    again.wait("conversation 2: aside, 4 messages")
    again.type("What is 9 + 9?")
    again.wait("\n18\n")
    assert again.leave() == 0
    assert "What is 9 + 9?" in history(tmp_path, "show", "2")


@pytest.mark.parametrize("how", [{"NO_COLOR": "1"}, {"LANG": "C", "LC_ALL": "C"}])
def test_without_color_or_unicode(run: Run, how: dict[str, str]) -> None:
    at = run("chat", "pocket", "--temperature", "0", size=(20, 12), **how)
    at.type("What is 20 + 22?")
    at.wait(lambda: "42" in at.text and at.is_ready())
    at.send("\x04")
    assert at.end() == 0
    if "NO_COLOR" in how:
        assert not re.search(rb"\x1b\[(\d+;)*(3[0-7]|4[0-7]|9[0-7])(;\d+)*m", at.raw)
    else:
        at.raw.decode("ascii")


def test_a_window_that_changes_while_it_answers(run: Run) -> None:
    at = run("chat", "pocket", "--think", "off", size=(80, 24))
    at.type("/set parameter ignore_eos true")
    at.type("What is 20 + 22?")
    at.wait("tok/s · Ctrl-C stops")
    at.resize(20, 10)
    at.wait(lambda: any(line == "" or len(line) < 20 for line in at.lines))
    at.resize(60, 30)
    at.send("\x03")
    at.wait("stopped here")
    at.type("/bye")
    assert at.end() == 0


def test_a_paste_of_a_megabyte_is_one_message(run: Run) -> None:
    at = run("chat", "pocket")
    at.wait(at.is_ready)
    line = "pasted text of many words\n"
    at.send("\x1b[200~" + line * (1_000_000 // len(line)) + "\x1b[201~")
    at.send("\r")
    at.wait("more than the context of")
    at.wait(at.is_ready)
    at.send("\x04")
    assert at.end() == 0


def test_keys_that_are_no_utf8_are_told(run: Run) -> None:
    at = run("chat", "pocket")
    at.wait(at.is_ready)
    at.send(b"gr\xfc\xdfe\r")
    at.wait("that was not UTF-8 text")
    at.type("/bye")
    assert at.end() == 0


def test_several_lines(run: Run, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "/tokens it was %s" "$(cat $2)" > "$2"\n')
    editor.chmod(0o755)
    at = run("chat", "pocket", VISUAL=f"{editor} -w")
    at.wait(at.is_ready)
    at.send('"""one\rtwo"""\r')
    at.wait("\n... two")
    at.wait(at.is_ready)
    at.send("/tokens three\x1b\rfour")
    at.wait("\n... four")
    at.send("\x03")
    at.wait(at.is_ready)
    at.send("begun\x07")  # Ctrl-G
    at.wait(">>> /tokens it was begun")
    at.send("\r")
    at.wait(" tokens\n")
    at.type("/bye")
    assert at.end() == 0
    assert '>>> """one' in at.text


def test_broken_files_of_earlier_chats(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "mull" / "chat"
    folder.mkdir(parents=True)
    (folder / "conversations.db").write_bytes(b"\x00rubbish" * 1000)
    (folder / "typed").write_bytes(b'\xff\xfe\n{"a"\n"\\u001b[2J"\n"typed before"\n[]')
    at = run("chat", "pocket", "--temperature", "0")
    at.wait("could not be read; they are now in")
    at.wait(at.is_ready)
    at.send("\x12bef")  # Ctrl-R
    at.wait("typed before")
    at.send("\x03")
    at.type("What is 20 + 22?")
    at.wait("\n42\n")
    at.type("/bye")
    assert at.end() == 0
    assert "What is 20 + 22?" in history(tmp_path, "list")


def test_where_nothing_can_be_kept(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    at = run("chat", "pocket", "--temperature", "0")
    at.wait(lambda: "this chat is not kept" in at.text.replace("\n", " "))
    at.type("What is 20 + 22?")
    at.wait("\n42\n")
    at.type("/branch")
    at.wait("there is no kept conversation")
    at.type("/bye")
    assert at.end() == 0


def test_no_log_leaves_nothing(run: Run, tmp_path: Path) -> None:
    at = run("chat", "pocket", "--no-log", "--temperature", "0")
    at.type("What is 20 + 22?")
    at.wait("\n42\n")
    at.type("/bye")
    assert at.end() == 0
    assert not (tmp_path / "state" / "mull" / "chat").exists()


def test_a_hangup_ends_it_and_keeps_what_came(run: Run, tmp_path: Path) -> None:
    at = run("chat", "pocket", "--think", "off")
    at.type("/set parameter ignore_eos true")
    at.type("What is 20 + 22?")
    at.wait("tok/s · Ctrl-C stops")
    at.kill(signal.SIGTERM)
    assert at.end() in (143, -signal.SIGTERM)
    assert json.loads(history(tmp_path, "list", "--json"))[0]["messages"] == 2


def test_a_terminal_that_goes_away_leaves_what_came(run: Run, tmp_path: Path) -> None:
    at = run("chat", "pocket", "--think", "off")
    at.type("/set parameter ignore_eos true")
    at.type("What is 20 + 22?")
    at.wait("tok/s · Ctrl-C stops")
    at.close()
    assert json.loads(history(tmp_path, "list", "--json"))[0]["messages"] == 2


def test_no_log_adds_nothing_to_what_it_goes_on_with(run: Run, tmp_path: Path) -> None:
    at = run("chat", "pocket", "--temperature", "0")
    at.type("What is 20 + 22?")
    at.wait("\n42\n")
    assert at.leave() == 0
    at = run("chat", "--continue", "--no-log")
    at.wait("conversation 1: What is 20 + 22?, 2 messages")
    at.type("What is 9 + 9?")
    at.wait("\n18\n")
    assert at.leave() == 0
    assert json.loads(history(tmp_path, "list", "--json"))[0]["messages"] == 2
    assert "9 + 9" not in (tmp_path / "state" / "mull" / "chat" / "typed").read_text()


def test_a_question_that_was_killed_while_the_model_thought_waits_in_the_prompt(
    run: Run, tmp_path: Path
) -> None:
    at = run("chat", "pocket")
    for setting in ('logit_bias {"509": -100}', "think_soft 0", "think_loop off"):  # it thinks for ever
        at.type(f"/set parameter {setting}")
    at.type("What is 20 + 22?")
    at.wait("Ctrl-T answers now")
    at.kill(signal.SIGKILL)
    assert at.end() == -signal.SIGKILL
    for _ in range(2):  # to look at it changes nothing
        at = run("chat", "--continue")
        at.wait(lambda at=at: ">>> What is 20 + 22?" in at.lines[at.screen.cursor.y])
        assert "What is 20 + 22?" in history(tmp_path, "show")
        at.kill(signal.SIGKILL)
        assert at.end() == -signal.SIGKILL
    at = run("chat", "--continue", "--think", "off", "--temperature", "0")
    at.wait(lambda at=at: ">>> What is 20 + 22?" in at.lines[at.screen.cursor.y])
    at.send("\r")
    at.wait("2,048")  # the status bar tells what the answer took
    assert at.leave() == 0
    assert json.loads(history(tmp_path, "list", "--json"))[0]["messages"] == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_at_any_moment(run: Run, tmp_path: Path) -> None:
    """Whenever it is killed, the file opens, what was asked is there, and the conversation goes on."""
    import random

    random_ = random.Random(7)
    for attempt in range(20):
        # Slowly: an answer must not be over before it was seen to begin.
        at = run("chat", *(["--continue"] if attempt else ["pocket"]), "--temperature", "1", MULL_CPU="none")
        at.wait(lambda at=at: ">>> " in at.lines[at.screen.cursor.y])
        at.send("\x15")  # a question that the last kill left without an answer
        at.type("/set parameter ignore_eos true")
        at.wait("ignore_eos is now true")
        at.type("What is 20 + 22?")
        at.wait(
            lambda at=at: any("Ctrl-T answers now" in line or "Ctrl-C stops" in line for line in at.lines)
        )
        # An endless answer grows by a frame of some hundred bytes at a time.
        enough = len(at.raw) + random_.randrange(4000)
        at.wait(lambda at=at, enough=enough: len(at.raw) > enough)
        at.kill(signal.SIGKILL)
        assert at.end() == -signal.SIGKILL
        listed = json.loads(history(tmp_path, "list", "--json"))
        assert len(listed) == 1
        assert listed[0]["messages"] % 2 == 0
        assert history(tmp_path, "show").count("What is 20 + 22?") >= 1
        at = run("chat", "--continue")
        at.wait(lambda at=at: ">>> " in at.lines[at.screen.cursor.y])
        at.send("\x15")
        at.type("/clear" if attempt == 10 else "/undo")
        at.type("/bye")
        assert at.end() == 0
