"""Commands to leave, and to find the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..completion import words_of
from ..keys import SHORTCUTS
from .command import Command

if TYPE_CHECKING:
    from ..app import Repl

_TOPICS = ("set", "show", "shortcuts")


def _leave(repl: Repl, argument: str) -> None:
    repl.leaving = True


def _help(repl: Repl, argument: str) -> None:
    """List the commands, or tell of one."""
    topic = argument.strip().lower().removeprefix("/")
    if topic == "shortcuts":
        repl.table(SHORTCUTS)
        return
    if topic:
        command, _ = repl.find(f"/{topic}")
        repl.table([(command.line, command.summary), *command.parts])
        return
    repl.table([(command.line, command.summary) for command in repl.commands.values()])
    repl.say("")
    repl.say('/? set and /? show tell more, /? shortcuts the keys. """ stands around several lines.')


COMMANDS = (
    Command("/bye", "", "Leave; the conversation is kept.", _leave),
    Command("/?", "[COMMAND|shortcuts]", "List the commands, or tell of one.", _help, words_of(*_TOPICS)),
)
