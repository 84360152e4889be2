"""The fields of Anthropic's requests, and what they may be."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from ..bodies import Fields


class Part(Fields):
    """A block of a message: text, thinking, tool_use, tool_result, or one that is refused by its type."""

    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, JsonValue] | None = None
    tool_use_id: str | None = None
    content: str | list[Part] | None = None
    is_error: bool | None = None


class Turn(Fields):
    """A message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Part]


class Tool(Fields):
    """A tool that the client runs; `type` names one that Anthropic runs, which we do not have."""

    name: str
    description: str | None = None
    input_schema: dict[str, JsonValue] | None = None
    type: str | None = None


class ToolChoice(Fields):
    """Whether a tool may, must or must not be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class CountBody(Fields):
    """What /v1/messages/count_tokens takes: a request without an answer."""

    model: str
    messages: list[Turn]
    system: str | list[Part] | None = None
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: ToolChoice | None = None
    thinking: dict[str, JsonValue] | None = None
    output_config: dict[str, JsonValue] | None = None
    output_format: dict[str, JsonValue] | None = None


class MessagesBody(CountBody):
    """What /v1/messages takes; other options of ours go by their names, in `options` or beside these."""

    max_tokens: int = Field(ge=1)
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    options: dict[str, JsonValue] | None = None
    num_ctx: int | None = Field(default=None, ge=1)
    keep_alive: float | str | None = None
