"""What a command of the chat is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ....errors import InvalidRequest
from ..completion import Candidates

if TYPE_CHECKING:
    from ..app import Repl

Run = Callable[["Repl", str], None]
"""Does what a command says, given the text behind it; raises MullError."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command; usage: what may follow it; parts: what `/? NAME` tells beside that."""

    name: str
    usage: str
    summary: str
    run: Run
    candidates: Candidates | None = None
    parts: tuple[tuple[str, str], ...] = ()

    @property
    def line(self) -> str:
        """The command with what may follow it."""
        return f"{self.name} {self.usage}".strip()


def wrong_usage(usage: str, message: str = "that is not how it is used") -> InvalidRequest:
    """Return an error that tells how a command is used."""
    return InvalidRequest(message, hint=f"usage: {usage}")
