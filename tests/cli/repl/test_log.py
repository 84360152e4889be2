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
