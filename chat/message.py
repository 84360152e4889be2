"""One message of a conversation, whatever dialect it came in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ..errors import InvalidRequest

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks to be called."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    id: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidRequest("a tool call needs the name of a function", field="tool_calls")
        if not isinstance(self.arguments, Mapping):
            raise InvalidRequest(
                f"the arguments of tool call {self.name!r} must be an object", field="tool_calls"
            )


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: `thinking` and `tool_calls` are an assistant's, `tool_name` and `tool_call_id` a tool's."""

    role: Role
    content: str = ""
    thinking: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str | None = None
    tool_call_id: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidRequest(
                f"unknown role {self.role!r}", field="role", hint=f"one of {', '.join(ROLES)}"
            )
        if not isinstance(self.content, str):
            raise InvalidRequest("the content of a message must be text", field="content")
        if self.role != "assistant" and self.thinking is not None:
            raise InvalidRequest(f"only an assistant thinks, not the {self.role}", field="thinking")
        if self.role != "assistant" and self.tool_calls:
            raise InvalidRequest(f"only an assistant calls tools, not the {self.role}", field="tool_calls")
