"""What comes back with a kept conversation, and what of it reaches the terminal."""

from __future__ import annotations

from fake_chat import Talk
from mull.chat.message import Message
from mull.chat.stream import Reasoning, Text


def test_resume_brings_back_what_was_set(talk) -> None:
    chat: Talk = talk()
    chat.typed(
        "/system Be.", "/set parameter top_k 3", "one", "/clear", '/system ""', "two", "/resume 1", "three"
    )
    request = chat.model.requests[2]
    assert request.messages[0] == Message("system", "Be.")
    assert request.options == {"top_k": 3}


def test_nothing_that_was_kept_commands_the_terminal(talk) -> None:
    chat: Talk = talk([Reasoning("h\x1b[2Jm"), Text("a\x1b]0;title\x07b")])
    for line in ("one \x1b[31m", "/tokens", "/clear", "/resume 1", "/compare other"):
        chat.repl.take(line)
    chat.repl.show_thought()
    for sequence in ("\x1b[2J", "\x1b]0;", "\x1b[31m"):
        assert sequence not in chat.out.getvalue()
    assert chat.text.count("ab") >= 3
