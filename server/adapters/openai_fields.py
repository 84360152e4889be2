"""The fields of OpenAI's requests, and what they may be; what else a request holds is kept beside them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .. import bodies

MOST_CHOICES = 128

Stops = str | list[str]
Number = float
"""Whole numbers too."""


class Fields(bodies.Fields):
    """An object of a request: types are taken as they are written, unknown fields are kept."""

    model_config = ConfigDict(protected_namespaces=())

    def given(self) -> dict[str, object]:
        """Return what the request holds, unknown fields included; null is the same as absent."""
        found = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: value for name, value in found.items() if value is not None}

    def extra(self, where: str = "") -> list[str]:
        """Return the names of unknown fields that say something."""
        return [
            where + name
            for name, value in (self.model_extra or {}).items()
            if value not in (None, [], {}, "")
        ]


class StreamOptions(Fields):
    """What a stream is to hold besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Asking(Fields):
    """What all three endpoints take: the model, how to draw tokens, and how long to keep the model."""

    model: str | None = Field(None, description="Absent: the model that was used last.")
    stream: bool | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: int | None = None
    min_p: Number | None = None
    seed: int | None = None
    stop: Stops | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    repeat_penalty: Number | None = None
    logit_bias: dict[str, Number] | None = Field(None, description="Token ids to biases.")
    ignore_eos: bool | None = None
    options: dict[str, object] | None = Field(None, description="Options by Ollama's names.")
    num_ctx: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(None, description="The least context.")
    keep_alive: str | Number | None = Field(None, description="How long the model stays: 5m, 300, -1, 0.")
    overflow: Literal["error", "oldest", "middle"] | None = Field(
        None, description="What becomes of a conversation that is longer than the context."
    )


class Function(Fields):
    """A function that the model may call."""

    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class Tool(Fields):
    """A tool; only functions can be called here."""

    type: str
    function: Function | None = None


class CalledFunction(Fields):
    """A call's function, and its arguments as JSON text."""

    name: Annotated[str, Field(min_length=1)]
    arguments: str | dict[str, object] | None = None


class Call(Fields):
    """A call that the model made in an earlier turn."""

    id: str | None = None
    type: str | None = None
    function: CalledFunction


class ChatMessage(Fields):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, object]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None


class Schema(Fields):
    """A JSON schema with a name."""

    name: str | None = None
    description: str | None = None
    schema_: dict[str, object] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Fields):
    """What the answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None
    schema_: dict[str, object] | None = Field(None, alias="schema")


class ChatBody(Asking):
    """What /v1/chat/completions takes."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    format: str | dict[str, object] | None = Field(None, description="As Ollama's: json or a schema.")
    json_schema: dict[str, object] | None = None
    grammar: str | None = Field(None, description="GBNF or Lark.")
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, object] | None = None
    parallel_tool_calls: bool | None = None
    stream_options: StreamOptions | None = None
    modalities: list[str] | None = None
    reasoning_format: Literal["auto", "deepseek", "none"] | None = None
    return_progress: bool | None = Field(
        None, description="As llama.cpp's: tell how far the prompt is computed."
    )


class CompletionBody(Asking):
    """What /v1/completions takes."""

    prompt: str | list[str] | list[int] | list[list[int]]
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    max_tokens: int | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    format: str | dict[str, object] | None = None
    json_schema: dict[str, object] | None = None
    grammar: str | None = None
    stream_options: StreamOptions | None = None


class EmbeddingsBody(Fields):
    """What /v1/embeddings takes."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
