"""The fields of llama.cpp's own requests, and what they may be."""

from __future__ import annotations

from pydantic import Field, JsonValue

from ..bodies import Fields

Prompts = str | list[int | str | list[int | str]]
"""A text; tokens, perhaps with texts among them; or several prompts of these kinds."""


class ModelBody(Fields):
    """What every request may say: the model, without which the one in memory is meant."""

    model: str | None = None


class CompletionBody(ModelBody):
    """What /completion takes; samplers' options go by the names that they have in `llm run`."""

    prompt: Prompts
    n_predict: int | None = None
    stream: bool = False
    stop: str | list[str] | None = None
    grammar: str | None = None
    json_schema: dict[str, JsonValue] | None = None
    n_probs: int | None = Field(default=None, ge=0, le=20)
    logit_bias: list[list[int | float | bool | str]] | dict[str, float] | None = None
    return_tokens: bool = False
    cache_prompt: bool = True


class TokenizeBody(ModelBody):
    """What /tokenize takes."""

    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class DetokenizeBody(ModelBody):
    """What /detokenize takes."""

    tokens: list[int] = Field(max_length=1_000_000)


class TemplateBody(ModelBody):
    """What /apply-template takes."""

    messages: list[dict[str, JsonValue]]
    tools: list[dict[str, JsonValue]] = Field(default_factory=list)


class ControlBody(ModelBody):
    """What the control of a reply under way takes: its id, and what is to be done."""

    id: str
    action: str
