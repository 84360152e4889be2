"""What is said is kept as it comes: whoever is killed loses no more than the last tenth of a second."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_chat import FakeModel, Talk
from mull.chat.history import History
from mull.chat.stream import Reasoning, Text
from mull.cli.repl.chat import Setup

# Says what it has written, with a tenth of a second's tokens on the way at most.
_WRITER = """
import sys, time
from pathlib import Path
from mull.chat.history import History
from mull.chat.stream import Reasoning, Text
from mull.cli.repl.log import Log

log = Log.open(Path(sys.argv[1]), print, print)
found = log.history.last()
if found is None:
    log.start("fake", {})
    before = None
else:
    before = log.load(found)[-1].id
log.ask(before, sys.argv[2], "fake")
written = log._written
number = 0
while True:
    number += 1
    log.keep(Text(f"{number} ") if number > 20 else Reasoning(f"{number} "))
    if log._written != written:
        written = log._written
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


@pytest.mark.parametrize("seed", range(20))
def test_a_kill_at_any_moment_loses_nothing_that_was_written(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), "count"], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    rounds = random.Random(seed).randrange(1, 4)
    written = [int(writer.stdout.readline()) for _ in range(rounds)][-1]
    for _ in range(random.Random(seed).randrange(50_000)):  # some moment after a write, or within the next
        pass
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    with History(path) as history:
        talk = history.last()
        assert talk is not None
        question, answer = history.messages(talk.id)
        assert question.message.content == "count"
        assert answer.open
        numbers = [*(answer.message.thinking or "").split(), *answer.message.content.split()]
        assert numbers == [str(number + 1) for number in range(len(numbers))]
        assert len(numbers) >= written


def test_the_conversation_goes_on_after_a_kill(tmp_path: Path, talk) -> None:
    chat: Talk = talk([Reasoning("hm"), Text("par"), Text("tial")])
    chat.log.start("fake", {})
    chat.log.ask(None, "one", "fake")
    chat.log._written = 0.0
    chat.log.keep(Reasoning("hm"))
    chat.log._written = 0.0
    chat.log.keep(Text("par"))
    chat.log.close()
    again = Talk(FakeModel([Text("ok")]), tmp_path)
    found = again.log.find(1)
    assert found is not None
    again.repl.resume(found)
    assert "conversation 1: one, 2 messages" in again.text
    again.typed("two")
    assert [m.content for m in again.model.requests[0].messages] == ["one", "par", "two"]
    saved = again.kept.messages(1)
    assert [(s.message.content, s.message.thinking, s.open) for s in saved[:2]] == [
        ("one", None, False), ("par", "hm", False),
    ]  # fmt: skip


def test_a_question_without_any_answer_comes_back_to_the_prompt(tmp_path: Path, talk) -> None:
    chat: Talk = talk()
    chat.log.start("fake", {})
    chat.log.ask(None, "lost?", "fake")
    chat.log.close()
    again = Talk(FakeModel([Text("ok")]), tmp_path)
    found = again.log.find(1)
    assert found is not None
    again.repl.resume(found)
    assert again.repl._waiting == "lost?"
    assert again.chat.entries == []
    assert [saved.message.content for saved in again.kept.messages(1)] == ["lost?", ""]
    again.typed(" Found.")
    assert [saved.message.content for saved in again.kept.messages(1)] == ["lost? Found.", "ok"]


def test_what_another_chat_went_on_with_stays_its_own(tmp_path: Path, talk) -> None:
    chat: Talk = talk([Text("a")])
    chat.typed("one")
    other = Talk(FakeModel([Text("b")]), tmp_path)
    other.repl.resume(other.log.find(1))
    other.typed("two")
    chat.typed("three", "four")
    assert [s.message.content for s in chat.kept.messages(1)] == ["one", "a", "two", "b"]
    assert [s.message.content for s in chat.kept.messages(2)] == ["one", "a", "three", "a", "four", "a"]
    assert chat.notes == ["conversation 1 goes on elsewhere; this is now conversation 2"]
    assert [m.content for m in chat.model.requests[1].messages] == ["one", "a", "three"]


def test_to_take_back_leaves_what_another_chat_said(tmp_path: Path, talk) -> None:
    chat: Talk = talk([Text("a")])
    chat.typed("one")
    other = Talk(FakeModel([Text("b")]), tmp_path)
    other.repl.resume(other.log.find(1))
    other.typed("two")
    chat.typed("/undo")
    assert [s.message.content for s in chat.kept.messages(1)] == ["one", "a", "two", "b"]
    assert chat.log.conversation == 2


def test_a_conversation_that_was_removed_stays_removed(tmp_path: Path, talk) -> None:
    chat: Talk = talk([Text("a")])
    chat.typed("one")
    other = Talk(FakeModel(), tmp_path)
    other.kept.remove(1)
    chat.typed("two")
    assert chat.notes == ["conversation 1 was removed; this is now conversation 2"]
    assert chat.kept.find(1) is None
    assert [s.message.content for s in chat.kept.messages(2)] == ["two", "a"]
    assert [m.content for m in chat.model.requests[1].messages] == ["one", "a", "two"]


def test_one_that_is_removed_during_an_answer_leaves_nothing_of_it(tmp_path: Path, talk) -> None:
    def remove(model: FakeModel) -> None:
        with History(tmp_path / "chat" / "kept.db") as other:
            other.remove(1)

    chat: Talk = talk([Text("secret"), remove, Text("more")], [Text("ok")])
    chat.typed("one", "two")
    assert chat.kept.find(1) is None
    assert chat.kept.search("secret") == ()
    assert [s.message.content for s in chat.kept.messages(2)] == ["two", "ok"]


def test_what_it_goes_on_with_is_noted(tmp_path: Path, talk) -> None:
    talk([Text("a")]).typed('/set parameter logit_bias {"5": -100}', "one")
    again = Talk(FakeModel([Text("b")], name="other"), tmp_path)
    found = again.log.find(1)
    assert found is not None
    again.chat.setup = Setup.from_json(found.options)
    again.repl.resume(found)
    assert again.kept.list()[0].model == "fake"
    again.typed("two")
    assert again.model.requests[0].options == {"logit_bias": {5: -100}}
    assert again.kept.list()[0].model == "other"


def test_closing_writes_what_has_come(tmp_path: Path, talk) -> None:
    chat: Talk = talk()
    chat.log.start("fake", {})
    chat.log.ask(None, "one", "fake")
    chat.log.keep(Text("just "))
    chat.log.keep(Text("now"))
    chat.log.close()
    with History(tmp_path / "chat" / "kept.db") as history:
        answer = history.messages(1)[1]
        assert (answer.message.content, answer.open) == ("just now", True)
