"""What a syntax of tool calls is: the texts that it begins with, how it is read, and how it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .reader import Reader, Step

if TYPE_CHECKING:
    from ..message import ToolCall
    from .calls import Calls
    from .types import Schema


class Rules(Protocol):
    """The rules of a grammar in the making: each method returns an expression for what it describes."""

    def text(self, text: str) -> str:
        """Exactly this text, control tokens among it."""

    def json(self, schema: Schema, root: Schema) -> str:
        """A JSON value of a schema, whose references lead into `root`."""

    def up_to(self, close: str) -> str:
        """Any text up to this one, and this one."""

    def regex(self, pattern: str) -> str:
        """A text that an expression describes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around and between the calls of one reply, and whether there may be several."""

    before: str
    between: str = ""
    after: str = ""
    several: bool = True


@dataclass(frozen=True, slots=True)
class Syntax:
    """One way to write calls.

    opens: the texts that calls begin with, the usual one first; read: reads what follows one of them, given which;
    bare: a call may also be a reply's JSON without any such text; in_prompt: the prompt itself may end with one of
    opens; frame: what stands around calls; body: one call, with NAME and ARGUMENTS in it, INDEX (of the call) and ID
    (any letters and digits); write: returns the expression of one call where that is not enough, by its name and
    schema; show: writes one. Without frame, and body or write, no call can be forced.
    """

    name: str
    opens: tuple[str, ...]
    read: Callable[[Reader, Calls, str], Step[None]]
    bare: bool = False
    in_prompt: bool = False
    frame: Frame | None = None
    body: str = ""
    write: Callable[[Rules, str, Schema], str] | None = None
    show: Callable[[ToolCall], str] | None = None

    @property
    def is_writable(self) -> bool:
        """Whether there is a grammar of its calls."""
        return self.frame is not None and bool(self.body or self.write)

    def expression(self, rules: Rules, tool: str, schema: Schema) -> str:
        """Return the expression of one call."""
        if self.write is not None:
            return self.write(rules, tool, schema)
        return " ".join(self._part(rules, part, tool, schema) for part in _PLACES.split(self.body) if part)

    def text(self, calls: Sequence[ToolCall]) -> str | None:
        """Return these calls as a model would write them; None if that is not known."""
        if self.frame is None or not (self.body or self.show):
            return None
        shown = [
            self.show(call) if self.show else _filled(self.body, call, i) for i, call in enumerate(calls)
        ]
        return self.frame.before + self.frame.between.join(shown) + self.frame.after

    def _part(self, rules: Rules, part: str, tool: str, schema: Schema) -> str:
        if part == "ARGUMENTS":
            return rules.json(schema, schema)
        if part in _ANY:
            return rules.regex(_ANY[part])
        if part == "NAME":
            return rules.text(_quoted(tool) if '"NAME"' in self.body else tool)
        return rules.text(part)


_PLACES = re.compile(r"\b(NAME|ARGUMENTS|INDEX|ID)\b")
_ANY = {"INDEX": "[0-9]{1,3}", "ID": "[a-zA-Z0-9_-]{1,24}"}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _filled(body: str, call: ToolCall, index: int) -> str:
    name = _quoted(call.name) if '"NAME"' in body else call.name
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    places = {"NAME": name, "ARGUMENTS": arguments, "INDEX": str(index), "ID": call.id or f"call{index}"}
    return _PLACES.sub(lambda found: places[found[1]], body)


def listed(must: list[str], may: list[str], comma: str) -> str:
    """Return the expression of a list with commas: all of `must`, then any of `may` in their order."""
    if must:
        return " ".join([f" {comma} ".join(must), *(f"({comma} {part})?" for part in may)])
    cases = [
        " ".join([part, *(f"({comma} {later})?" for later in may[index + 1 :])])
        for index, part in enumerate(may)
    ]
    return f"({' | '.join(cases)})?" if cases else ""
