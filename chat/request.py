"""What a caller asks of a model, before any template: the one form that every dialect is translated into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ..errors import InvalidRequest
from .message import Message

Think = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to continue, or with `raw` a prompt that no template touches.

    options: sampling options by their users' names (`num_predict`, `top_k`, …), the absent ones by default.
    """

    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, object], ...] = ()
    think: Think = "auto"
    options: Mapping[str, object] = field(default_factory=dict)
    raw: str | None = None

    def __post_init__(self) -> None:
        if self.think not in get_args(Think):
            modes = ", ".join(get_args(Think))
            raise InvalidRequest(
                f"unknown thinking mode {self.think!r}", field="think", hint=f"one of {modes}"
            )
        if self.raw is None and not self.messages:
            raise InvalidRequest("there is no message to answer", field="messages")
        if self.raw is not None and self.messages:
            raise InvalidRequest("a raw prompt takes no messages beside it", field="raw")
        for tool in self.tools:
            if not isinstance(tool, Mapping):
                raise InvalidRequest("each tool must be an object", field="tools")
