"""The table of the chat's commands, and how one is found."""

from __future__ import annotations

import difflib
import re

from ....errors import InvalidRequest
from ..completion import Candidates
from . import compare, figures, files, leaving, models, settings, turns
from .command import Command

COMMANDS: dict[str, Command] = {
    command.name: command
    for theme in (settings, models, turns, files, figures, compare, leaving)
    for command in theme.COMMANDS
}
"""Every command by its name, slash included, in the order of the help."""

ALIASES = {"/help": "/?", "/exit": "/bye", "/quit": "/bye"}
_NAME = re.compile(r"/(\?|[A-Za-z]+)(?=\s|$)")


def is_command(text: str) -> bool:
    """Tell whether this is a command, known or not, and no path and no sentence."""
    return _NAME.match(text) is not None


def find(text: str) -> tuple[Command, str]:
    """Return the command that a line means, and what follows its name; raises InvalidRequest for none."""
    name, _, argument = text.partition(" ")
    if "\n" in name:
        name, _, argument = text.partition("\n")
    name = name.strip().lower()
    command = COMMANDS.get(ALIASES.get(name, name))
    if command is None:
        known = [*COMMANDS, *ALIASES]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        begun = [other for other in known if other.startswith(name)]
        meant = (begun or near)[:1]
        hint = f"did you mean {meant[0]}? (/? lists all)" if meant else "/? lists all"
        raise InvalidRequest(f"there is no command {name}", hint=hint)
    return command, argument.strip()


def summaries() -> list[tuple[str, str]]:
    """Return every name, aliases too, with what it does."""
    aliases = [(alias, COMMANDS[name].summary) for alias, name in ALIASES.items()]
    return [(command.name, command.summary) for command in COMMANDS.values()] + aliases


def candidates(name: str) -> Candidates | None:
    """Return what completes the words behind a command."""
    command = COMMANDS.get(ALIASES.get(name, name))
    return None if command is None else command.candidates
