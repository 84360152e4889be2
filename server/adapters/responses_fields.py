"""The fields of requests to /v1/responses, and what they may be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .openai_fields import Asking, Fields


class TextFormat(Fields):
    """What the answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, object] | None = Field(None, alias="schema")
    strict: bool | None = None


class TextConfig(Fields):
    """How the answer is to be written."""

    format: TextFormat | None = None


class FlatTool(Fields):
    """A tool; only functions can be called here."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class ResponsesBody(Asking):
    """What /v1/responses takes."""

    input: str | list[dict[str, object]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    tools: list[FlatTool] | None = None
    tool_choice: str | dict[str, object] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    previous_response_id: str | None = Field(None, description="A response that this server still keeps.")
    store: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    metadata: dict[str, object] | None = None
    background: bool | None = None
