"""One reply under way: keys and Ctrl-C end thoughts and answers, and what came stays."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from fake_chat import PATIENCE, FakeModel, Talk
from mull.chat.history import History
from mull.chat.stream import Progress, Reasoning, Text
from mull.errors import ContextExceeded, EngineStopped


def press_ctrl_c(model: FakeModel) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def until_answering(model: FakeModel) -> None:
    assert model.answering.wait(PATIENCE)


def until_stopped(model: FakeModel) -> None:
    assert model.stopped.wait(PATIENCE)


def test_a_turn_is_shown_and_kept(talk) -> None:
    chat: Talk = talk([Progress(1, 2), Reasoning("hm"), Text("Yes"), Text(".")])
    screen = chat.typed("is it?")
    assert screen.splitlines()[-1] == "Yes."
    talks = chat.kept.list()
    assert [(t.title, t.num_messages) for t in talks] == [("is it?", 2)]
    question, answer = chat.kept.messages(talks[0].id)
    assert (question.message.content, answer.message.content, answer.message.thinking) == (
        "is it?",
        "Yes.",
        "hm",
    )
    assert answer.details["used"] == 24
    assert not answer.open


def test_the_first_ctrl_c_in_a_thought_asks_for_the_answer(talk) -> None:
    chat: Talk = talk([Reasoning("hm"), _seen, press_ctrl_c, until_answering, Text("42")])
    assert chat.typed("is it?").splitlines()[-1] == "42"
    assert not chat.model.stopped.is_set()


def test_a_second_ctrl_c_stops_and_the_question_is_forgotten(talk) -> None:
    stopped = [Reasoning("hm"), _seen, press_ctrl_c, until_answering, press_ctrl_c, until_stopped, Text("no")]
    chat: Talk = talk(stopped, [Text("ok")])
    chat.typed("one", "two")
    assert [m.content for m in chat.model.requests[1].messages] == ["two"]
    assert [saved.message.content for saved in chat.kept.messages(1)] == ["two", "ok"]


def test_ctrl_c_stops_an_answer_and_keeps_it(talk) -> None:
    chat: Talk = talk([Text("par"), press_ctrl_c, until_stopped, Text("tial")], [Text("ok")])
    screen = chat.typed("one", "two")
    assert "par\nstopped here" in screen
    assert [m.content for m in chat.model.requests[1].messages] == ["one", "par", "two"]
    assert chat.kept.messages(1)[1].details["stopped"] is True


def test_a_ctrl_c_too_many_does_not_take_the_answer_away(talk) -> None:
    released = threading.Event()
    ctrl_c = [press_ctrl_c, until_stopped, press_ctrl_c]
    stopped = [Text("par"), _written, *ctrl_c, lambda model: released.wait(PATIENCE)]
    chat: Talk = talk(stopped, [Text("ok")])
    screen = chat.typed("one")
    released.set()
    assert "par\nstopped here" in screen
    assert [e.message.content for e in chat.chat.entries] == ["one", "par"]
    assert [saved.message.content for saved in chat.kept.messages(1)] == ["one", "par"]


def test_what_came_is_kept_when_the_program_is_told_to_end(talk) -> None:
    chat: Talk = talk([Text("par"), SystemExit(143)])
    with pytest.raises(SystemExit):
        chat.typed("one")
    chat.log.close()
    with History(chat.folder / "chat" / "kept.db") as history:
        assert [(s.message.content, s.open) for s in history.messages(1)] == [("one", False), ("par", True)]


def test_ctrl_c_while_a_model_is_loaded_leaves_the_old_one(talk, monkeypatch: pytest.MonkeyPatch) -> None:
    chat: Talk = talk()
    open_model, opened = Talk.__call__, []

    def interrupted(self: Talk, name: str, num_ctx: int | None) -> object:
        opened.append(name)
        if name == "slow":
            raise KeyboardInterrupt
        return open_model(self, name, num_ctx)

    monkeypatch.setattr(Talk, "__call__", interrupted)
    chat.typed("/load slow", "hi")
    assert opened == ["slow", "fake"]
    assert not chat.chat.model.is_closed
    assert [m.content for m in chat.chat.model.requests[0].messages] == ["hi"]


def test_a_nearly_full_context_is_told(talk) -> None:
    chat: Talk = talk([Text("a")])
    chat.model.context_length = 26
    assert "the context is 92% full, 2 tokens are left" in chat.typed("one")


def test_a_model_that_does_not_stop_is_cut_off(talk) -> None:
    chat: Talk = talk([Text("par"), press_ctrl_c, until_stopped])
    chat.model._replies[0] += [lambda model: model.stopped.clear(), *[Text("x")] * 100_000]
    chat.typed("one")
    assert len(chat.chat.entries[1].message.content) < 1000


def test_an_error_leaves_the_conversation_as_it_was(talk) -> None:
    chat: Talk = talk([Text("par"), ContextExceeded("too long", hint="shorten it")], [Text("ok")])
    screen = chat.typed("one", "two")
    assert "error: too long\nhint: shorten it" in screen
    assert [m.content for m in chat.model.requests[1].messages] == ["two"]
    assert [saved.message.content for saved in chat.kept.messages(1)] == ["two", "ok"]


def test_an_engine_that_stopped_ends_the_chat(talk) -> None:
    chat: Talk = talk([EngineStopped("it is over")])
    with pytest.raises(EngineStopped):
        chat.typed("one")


def test_a_chat_goes_on_when_the_file_fails(talk) -> None:
    chat: Talk = talk([Text("a")])
    chat.kept.close()  # every write fails from here on
    chat.typed("one", "two")
    assert len(chat.notes) == 1
    assert [m.content for m in chat.model.requests[1].messages] == ["one", "a", "two"]


def test_what_is_typed_meanwhile_is_not_lost() -> None:
    from mull.cli.repl.app import _as_text

    assert _as_text(b"next \x1b[A\x1b[200~one\x1b[201~\x1b\r") == "next one"
    assert _as_text("größe\x01\xff".encode("latin-1")) == "gre"


def _written(model: FakeModel) -> None:
    """Wait until the answer is on the screen."""
    never = threading.Event()
    while "par" not in model.seen():
        never.wait(0.01)


def _seen(model: FakeModel) -> None:
    """Wait until the thought is on the screen."""
    never = threading.Event()
    while "thinking" not in model.seen():
        never.wait(0.01)
