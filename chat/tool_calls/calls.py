"""The calls of one reply: what is read of them becomes events."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence

from ..events import Event, ToolArguments, ToolCallBegin, ToolCallEvent
from ..message import ToolCall
from .json_text import parsed
from .reader import BadCall
from .types import Schema

_LONGEST_NAME = 200


def new_call_id() -> str:
    """Return an id for a tool call: nine letters and digits, which is what Mistral's templates accept."""
    return "call" + secrets.token_hex(3)[:5]


class Calls:
    """Makes events of calls: `begin`, `arguments` any number of times, `end`.

    tools: as the request offers them; ended: called after each whole call.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, object]],
        emit: Callable[[Event], None],
        make_id: Callable[[], str] = new_call_id,
    ) -> None:
        self.schemas = {name: schema for name, schema in map(offered, tools) if name}
        self._emit = emit
        self._make_id = make_id
        self.is_open = False  # a call has begun and not ended
        self._index = -1
        self._ids: set[str] = set()
        self._id = self._name = ""
        self._pieces: list[str] = []
        self.ended: Callable[[], None] = lambda: None

    def schema(self, name: str) -> Schema:
        """Return the schema of a tool's arguments; an empty one for a tool that was not offered."""
        return self.schemas.get(name, {})

    def begin(self, name: str, call_id: str | None = None) -> None:
        """Begin a call; raises BadCall for what is no name.

        call_id: the model's own, if it means anything; another is made where it is none or was there before.
        """
        name = name.strip()
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise BadCall("the name of the function is missing")
        if not call_id or call_id in self._ids:
            call_id = self._make_id()
        self._index += 1
        self.is_open = True
        self._id, self._name, self._pieces = call_id, name, []
        self._ids.add(call_id)
        self._emit(ToolCallBegin(self._index, call_id, name))

    def arguments(self, text: str) -> None:
        """Add the next piece of the arguments, as JSON text."""
        if text:
            self._pieces.append(text)
            self._emit(ToolArguments(self._index, text))

    def end(self) -> None:
        """End the call; raises BadCall if its arguments are no object."""
        if not self._pieces:
            self.arguments("{}")
        found = parsed("".join(self._pieces))
        if not isinstance(found, dict):
            raise BadCall(f"the arguments of {self._name} are no object")
        self._emit(ToolCallEvent(ToolCall(self._name, found, self._id), self._index))
        self.is_open = False
        self.ended()

    def whole(self, name: str, arguments: Mapping[str, object]) -> None:
        """Add a call that is known at once."""
        self.begin(name)
        self.arguments(json.dumps(arguments, ensure_ascii=False))
        self.end()


def offered(tool: Mapping[str, object]) -> tuple[str, Schema]:
    """Return a tool's name, empty if it has none, and the schema of its arguments."""
    inner = tool.get("function", tool)
    found = inner if isinstance(inner, Mapping) else {}
    name, schema = found.get("name"), found.get("parameters", found.get("input_schema"))
    return name if isinstance(name, str) else "", schema if isinstance(schema, Mapping) else {}
