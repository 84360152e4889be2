"""Commands that go back, aside, and on in a conversation."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from ....errors import InvalidRequest
from ...chat_files import conversation_id
from ...formats import human_time, printable
from ..chat import Setup
from ..editor import edit_text
from .command import Command, wrong_usage

if TYPE_CHECKING:
    from ..app import Repl

_LISTED = 10
_SEED_DIGITS = 20  # of 64 bits
_NO_QUESTION = "nothing was asked yet"


def _regen(repl: Repl, argument: str) -> None:
    """Ask the last question again, with another seed."""
    seed = secrets.randbelow(2**31)
    if argument:
        if not argument.isascii() or not argument.isdigit() or len(argument) > _SEED_DIGITS:
            raise wrong_usage("/regen [SEED]", f"a seed is a whole number, not {_short(argument)}")
        seed = int(argument)
    _again(repl, None, {"seed": seed})


def _edit(repl: Repl, argument: str) -> None:
    """Change the last question, in the editor unless the new text is given, and ask it."""
    question = repl.chat.question
    if question is None:
        raise InvalidRequest(_NO_QUESTION)
    edited = argument or edit_text(question)
    if not edited.strip() or edited == question:
        repl.note("nothing was changed")
        return
    _again(repl, edited, {})


def _again(repl: Repl, question: str | None, options: dict[str, object]) -> None:
    """Ask instead of the last question; what was there comes back if no answer does."""
    before = repl.chat.entries
    asked = repl.chat.take_back()
    if asked is None:
        raise InvalidRequest(_NO_QUESTION)
    answered = False
    try:
        answered = repl.ask(question or asked, options, attach=False)
    finally:
        if not answered:
            repl.chat.restore(before)


def _undo(repl: Repl, argument: str) -> None:
    """Drop the last question and its answer."""
    question = repl.chat.take_back()
    if question is None:
        raise InvalidRequest("there is nothing to take back")
    repl.note(f"taken back: {_short(question)}")


def _branch(repl: Repl, argument: str) -> None:
    """Go on in a copy."""
    parent = repl.chat.log.conversation
    child = repl.chat.branch(argument)
    if child is None:
        raise InvalidRequest("there is no kept conversation to branch off", hint="ask something first")
    repl.note(f"this is now conversation {child}; {parent} stays as it is (/resume {parent})")


def _resume(repl: Repl, argument: str) -> None:
    """Go on with a kept conversation, or list some."""
    if not argument:
        rows = [
            (str(talk.id), f"{_short(talk.title)} · {talk.model} · {human_time(repl.when(talk.updated))}")
            for talk in repl.chat.log.recent(_LISTED)
        ]
        repl.table(rows or [("nothing is kept yet", "")])
        return
    number = conversation_id(argument)
    talk = None if number is None else repl.chat.log.find(number)
    if talk is None:
        raise InvalidRequest(f"there is no conversation {_short(argument)}", hint="/resume lists the last")
    # A context of another size would need the model to be loaded again.
    repl.chat.setup = replace(Setup.from_json(talk.options), num_ctx=repl.chat.setup.num_ctx)
    repl.resume(talk)


def _clear(repl: Repl, argument: str) -> None:
    """Begin a new conversation."""
    kept = repl.chat.log.conversation
    repl.chat.clear()
    repl.note("a new conversation begins" + ("" if kept is None else f"; {kept} is kept (/resume {kept})"))


def _short(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= 50 else line[:49] + "…"


COMMANDS = (
    Command("/clear", "", "Begin a new conversation; the old one is kept.", _clear),
    Command("/regen", "[SEED]", "Answer the last question again.", _regen),
    Command("/edit", "[TEXT]", "Change the last question, in your editor, and ask it.", _edit),
    Command("/undo", "", "Take back the last question and its answer.", _undo),
    Command("/branch", "[TITLE]", "Go on in a copy; this conversation stays as it is.", _branch),
    Command("/resume", "[ID]", "Go on with a kept conversation, or list the last.", _resume),
)
