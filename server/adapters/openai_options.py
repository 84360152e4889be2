"""How tokens are to be drawn and what the answer must look like, as the fields of OpenAI's requests say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...chat.options import OPTIONS, from_user, merge, our_defaults, sampling_params
from ...chat.request import Overflow
from ...chat.thinking import THINK_OPTIONS
from ...chat.thinking_fields import from_openai_chat
from ...errors import InvalidRequest
from ...runtime.grammar.constraint import Constraint, parse_format, parse_grammar
from .openai_fields import Asking, ResponseFormat
from .option_values import read_bias, read_option, read_stops

# Extra fields that are read somewhere, by the names that thinking_fields and OPTIONS know.
_THINKING = (
    "reasoning", "reasoning_effort", "thinking_budget", "thinking_token_budget", "thinking_budget_tokens",
    "reasoning_budget_tokens", "max_thinking_tokens", "reasoning_budget_message", "chat_template_kwargs",
    *THINK_OPTIONS,
)  # fmt: skip
_TEMPLATE = ("enable_thinking", "thinking", "thinking_budget", "reasoning_effort")
# Those of OPTIONS that mean something else in OpenAI's requests, or are written otherwise.
_OWN_MEANING = ("logprobs", "logit_bias", "stop")


@dataclass(slots=True)
class Common:
    """What a request says beside its conversation.

    options: sampling and thinking options by our names; ignored: fields that have no effect, for its sender to know;
    notes: what was decided between fields that contradict each other; shows_thinking: thoughts are to be sent.
    """

    options: dict[str, object] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_ctx: int | None = None
    keep_alive: object = None
    overflow: Overflow | None = None
    shows_thinking: bool = True


def read_common(body: Asking) -> Common:
    """Read what all endpoints share; raises InvalidRequest that names the field.

    Only what the request sets becomes an option, so that a Modelfile's parameters hold.
    """
    given = body.given()
    inner = body.options or {}
    common = Common(num_ctx=body.num_ctx, keep_alive=body.keep_alive, overflow=body.overflow)
    thinking = {k: v for k, v in inner.items() if k not in OPTIONS and _is_about_thinking(k)}
    asked = from_openai_chat({**thinking, **given})
    _read_inner(common, inner)
    extra = body.model_extra or {}
    for name, value in given.items():
        if name in OPTIONS and name not in _OWN_MEANING:
            common.options[name] = value
        elif name in extra and name not in _THINKING and value not in ([], {}, ""):
            common.ignored.append(name)
    if body.stop is not None:
        common.options["stop"] = read_stops(body.stop, "stop")
    if body.logit_bias is not None:
        common.options["logit_bias"] = read_bias(body.logit_bias, "logit_bias")
    common.options |= asked.options
    common.notes += asked.notes
    template = given.get("chat_template_kwargs")
    if isinstance(template, Mapping):
        common.ignored += [f"chat_template_kwargs.{name}" for name in template if name not in _TEMPLATE]
    reasoning = given.get("reasoning")
    common.shows_thinking = not (isinstance(reasoning, Mapping) and reasoning.get("exclude") is True)
    return common


def check_options(options: Mapping[str, object]) -> None:
    """Raise InvalidRequest for an option that is out of its range, before any model is loaded for it."""
    own = {name: value for name, value in options.items() if name not in THINK_OPTIONS}
    try:
        sampling_params(merge(our_defaults(), from_user(own, "request")))
    except InvalidRequest:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError) as error:  # not even of the right type
        raise InvalidRequest(f"the options cannot be read: {error}", field="options") from None


def seeds(options: Mapping[str, object], count: int) -> list[dict[str, object]]:
    """Return the options of each of `count` choices: with a seed of its own, where one was given."""
    seed = options.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        return [dict(options) for _ in range(count)]
    return [{**options, "seed": (seed + number) % 2**64} for number in range(count)]


def read_format(
    asked: ResponseFormat | None,
    plain: str | Mapping[str, object] | None = None,
    schema: Mapping[str, object] | None = None,
    grammar: str | None = None,
) -> Constraint | None:
    """Return what the answer must look like: OpenAI's response_format, Ollama's format or llama.cpp's fields."""
    found: dict[str, Constraint] = {}
    if asked is not None and asked.type != "text":
        found["response_format"] = _response_format(asked)
    if plain:
        found["format"] = parse_format(plain)
    if schema is not None:
        found["json_schema"] = parse_format(schema)
    if grammar:
        found["grammar"] = parse_grammar(grammar)
    if len(found) > 1:
        first, second, *_ = found
        raise InvalidRequest(f"{first} and {second} cannot both say what the answer looks like", field=second)
    return next(iter(found.values()), None)


def schema_format(schema: Mapping[str, object] | None, where: str) -> Constraint:
    """Return the rule that a schema is; raises InvalidRequest if there is none."""
    if schema is None:
        raise InvalidRequest(f"{where} is missing", field=where)
    try:
        return parse_format(schema)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, field=where, hint=error.hint) from None


def _response_format(asked: ResponseFormat) -> Constraint:
    if asked.type == "json_schema":
        named = None if asked.json_schema is None else asked.json_schema.schema_
        return schema_format(named or asked.schema_, "response_format.json_schema.schema")
    if asked.schema_:
        return schema_format(asked.schema_, "response_format.schema")
    return Constraint("json")


def _read_inner(common: Common, inner: Mapping[str, object]) -> None:
    """Read the object `options`; the request's own fields win over it."""
    for name, value in inner.items():
        if value is None:
            continue
        if name == "num_ctx":
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
                raise InvalidRequest("options.num_ctx must be a number of tokens", field="options.num_ctx")
            common.num_ctx = common.num_ctx or value
        elif name in OPTIONS:
            common.options[name] = read_option(name, value, f"options.{name}")
        elif not _is_about_thinking(name):
            common.ignored.append(f"options.{name}")


def _is_about_thinking(name: str) -> bool:
    return name in _THINKING or name.lower().startswith(("think", "reason", "max_think", "max_reason"))
