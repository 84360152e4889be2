"""What a caller asks of a model, before any template: the one form that every dialect is translated into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import InvalidRequest
from ..runtime.grammar.constraint import Constraint
from .message import Message

ToolChoice = Literal["auto", "none", "required"]
Overflow = Literal["error", "oldest", "middle"]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to continue, or with `raw` a prompt that no template touches.

    think: as the option of that name: auto, on, off, a level, a number of tokens or a share; None: as the model's
    makers or the Modelfile say; options: sampling and thinking options by their users' names (`num_predict`,
    `top_k`, `think_min`, …), the absent ones by default; id: by which the reply can be told to stop thinking;
    format: what the answer, not the thought, must look like; tool_choice: whether a tool may or must be called,
    forced_tool: the one that must; overflow: what becomes of a conversation that is longer than the context;
    context: tokens of an earlier exchange that come before the prompt; template: a Jinja template in the place of the
    model's own.
    """

    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, object], ...] = ()
    think: str | int | bool | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    raw: str | None = None
    id: str | None = None
    format: Constraint | None = None
    tool_choice: ToolChoice = "auto"
    forced_tool: str | None = None
    parallel_tool_calls: bool = True
    overflow: Overflow | None = None
    context: tuple[int, ...] = ()
    template: str | None = None

    def __post_init__(self) -> None:
        if self.raw is None and not self.messages:
            raise InvalidRequest("there is no message to answer", field="messages")
        if self.raw is not None and self.messages:
            raise InvalidRequest("a raw prompt takes no messages beside it", field="raw")
        for tool in self.tools:
            if not isinstance(tool, Mapping):
                raise InvalidRequest("each tool must be an object", field="tools")
