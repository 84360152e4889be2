"""The fields of Ollama's requests, and what they may be."""

from __future__ import annotations

from pydantic import AliasChoices, Field, JsonValue

from ..bodies import Fields

Options = dict[str, JsonValue]
Files = dict[str, str]


class CalledFunction(Fields):
    """What a tool call names; some clients write the arguments as JSON text."""

    name: str
    arguments: dict[str, JsonValue] | str = Field(default_factory=dict)
    index: int | None = None


class Call(Fields):
    """A tool call of an earlier answer."""

    function: CalledFunction
    id: str | None = None
    type: str | None = None


class Turn(Fields):
    """A message of the conversation."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[JsonValue] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = Field(default=None, validation_alias=AliasChoices("tool_name", "name"))
    tool_call_id: str | None = None


class AskBody(Fields):
    """What /api/generate and /api/chat have in common."""

    model: str = ""
    stream: bool | None = None
    format: str | dict[str, JsonValue] | None = None
    keep_alive: float | str | None = None
    options: Options | None = None
    think: bool | str | int | dict[str, JsonValue] | None = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    debug_render_only: bool | None = Field(default=None, alias="_debug_render_only")


class GenerateBody(AskBody):
    """What /api/generate takes."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[JsonValue] | None = None


class ChatBody(AskBody):
    """What /api/chat takes."""

    messages: list[Turn] | None = None
    tools: list[dict[str, JsonValue]] | None = None


class NameBody(Fields):
    """What names a model: `model`, which older clients call `name`."""

    model: str = ""
    name: str | None = None

    @property
    def asked(self) -> str:
        """The name, whichever field it came in."""
        return self.model or self.name or ""


class ShowBody(NameBody):
    """What /api/show takes."""

    verbose: bool | None = None
    system: str | None = None
    template: str | None = None
    options: Options | None = None


class TransferBody(NameBody):
    """What /api/pull and /api/push take."""

    stream: bool | None = None
    insecure: bool | None = None


class CopyBody(Fields):
    """What /api/copy takes."""

    source: str = ""
    destination: str = ""


class CreateBody(NameBody):
    """What /api/create takes."""

    stream: bool | None = None
    from_: str | None = Field(default=None, alias="from")
    files: Files | None = None
    adapters: Files | None = None
    template: str | None = None
    license: str | list[str] | None = None
    system: str | None = None
    parameters: Options | None = None
    messages: list[Turn] | None = None
    renderer: str | None = None
    parser: str | None = None
    requires: str | None = None
    draft: str | None = None
    quantize: str | None = None


class EmbedBody(NameBody):
    """What /api/embed and /api/embeddings take."""

    input: str | list[JsonValue] | None = None
    prompt: str | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: float | str | None = None
    options: Options | None = None
