"""How other APIs ask a model to think: their request fields as our options, with notes on what was decided."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InvalidRequest
from .thinking import LEVELS, THINK_OPTIONS, think_options

_OBJECT = {
    "budget": "think_budget", "min": "think_min", "rounds": "think_rounds", "soft": "think_soft",
    "message": "think_message", "exit": "think_exit",
}  # fmt: skip
_EFFORTS = {"none": "off", "xhigh": "max", "ultra": "max", **{level: level for level in LEVELS}}
_SPENDING = (
    "thinking_budget", "thinking_token_budget", "thinking_budget_tokens", "reasoning_budget_tokens",
    "max_thinking_tokens",
)  # fmt: skip
_CHAT = ("reasoning_effort", "reasoning", *_SPENDING, "reasoning_budget_message", "think", *THINK_OPTIONS)
_TEMPLATE = ("enable_thinking", "thinking", "thinking_budget", "reasoning_effort")
# What they call parts of a conversation or of what they answer, not how to think.
_OTHERS = ("reasoning_content", "reasoning_format", "reasoning_summary")
_ANTHROPIC_LEAST = 1024
_PREFIXES = ("think", "reason", "max_think", "max_reason", "enable_think", "include_reason")


@dataclass(slots=True)
class Asked:
    """Options by our names, as a request's fields give them, and what its sender should know."""

    options: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def from_ollama(body: Mapping[str, object]) -> Asked:
    """Read `think` (a truth value, a level, tokens, a share, or an object) and `options.think_*`.

    Raises InvalidRequest that names the field, here and in all below.
    """
    _check_names(body, ("think",), "")
    asked = Asked()
    inner = _mapping(body, "options")
    _check_names(inner, THINK_OPTIONS, "options.")
    asked.options.update(_present(inner, THINK_OPTIONS))
    think = body.get("think")
    if isinstance(think, Mapping):
        _read_object(asked, think)
    elif think is not None:
        _put(asked, "think", think, "think")
    return _checked(asked)


def from_openai_chat(body: Mapping[str, object]) -> Asked:
    """Read `reasoning_effort`, `reasoning`, and what vLLM, llama.cpp and others call a budget."""
    _check_names(body, _CHAT, "")
    asked = Asked()
    for name, value in _present(body, THINK_OPTIONS).items():
        if isinstance(value, Mapping):
            _read_object(asked, value)
        else:
            _put(asked, name, value, name)
    template = _mapping(body, "chat_template_kwargs")
    _check_names(template, _TEMPLATE, "chat_template_kwargs.")
    for name in ("enable_thinking", "thinking"):
        if template.get(name) is not None:
            _switch(asked, template[name], f"chat_template_kwargs.{name}")
    if template.get("reasoning_effort") is not None:
        _effort(asked, template["reasoning_effort"], "chat_template_kwargs.reasoning_effort")
    _read_reasoning(asked, body)
    if body.get("reasoning_effort") is not None:
        _effort(asked, body["reasoning_effort"], "reasoning_effort")
    if template.get("thinking_budget") is not None:
        _spend(asked, template["thinking_budget"], "chat_template_kwargs.thinking_budget")
    for name in _SPENDING:
        if body.get(name) is not None:
            _spend(asked, body[name], name)
    if body.get("reasoning_budget_message") is not None:
        _put(asked, "think_message", body["reasoning_budget_message"], "reasoning_budget_message")
    return _checked(asked)


def from_openai_responses(body: Mapping[str, object]) -> Asked:
    """Read `reasoning.effort`."""
    _check_names(body, ("reasoning", *THINK_OPTIONS), "")
    asked = Asked(_present(body, THINK_OPTIONS))
    _read_reasoning(asked, body)
    return _checked(asked)


def from_anthropic(body: Mapping[str, object]) -> Asked:
    """Read `thinking` and `output_config.effort`; a budget must leave room in `max_tokens`."""
    _check_names(body, ("thinking", *THINK_OPTIONS), "")
    asked = Asked(_present(body, THINK_OPTIONS))
    effort = _mapping(body, "output_config").get("effort")
    if effort is not None:
        _effort(asked, effort, "output_config.effort")
    thinking = _mapping(body, "thinking")
    if not thinking:
        return _checked(asked)
    _check_all(thinking, ("type", "budget_tokens", "display"), "thinking.")
    kind = thinking.get("type")
    if kind not in ("enabled", "adaptive", "disabled"):
        raise InvalidRequest(
            f"thinking.type must be enabled, adaptive or disabled, not {kind!r}", field="thinking.type"
        )
    if kind != "adaptive":
        _switch(asked, kind == "enabled", "thinking.type")
    budget = thinking.get("budget_tokens")
    if budget is not None and kind != "disabled":
        _check_anthropic(asked, budget, body.get("max_tokens"))
        _spend(asked, budget, "thinking.budget_tokens")
    return _checked(asked)


def from_gemini(body: Mapping[str, object]) -> Asked:
    """Read `generationConfig.thinkingConfig`: a budget of -1 is the model's own choice, 0 no thought at all."""
    asked = Asked()
    outer = body if "thinkingConfig" in body else _mapping(body, "generationConfig")
    thinking = _mapping(outer, "thinkingConfig")
    _check_all(thinking, ("thinkingBudget", "thinkingLevel", "includeThoughts"), "thinkingConfig.")
    level = thinking.get("thinkingLevel")
    if level is not None:
        _effort(asked, str(level).lower(), "thinkingConfig.thinkingLevel")
    budget = thinking.get("thinkingBudget")
    if budget is not None and str(budget) == "-1":
        _put(asked, "think", "auto", "thinkingConfig.thinkingBudget -1, which means")
    elif budget is not None:
        _spend(asked, budget, "thinkingConfig.thinkingBudget")
    return _checked(asked)


def _read_object(asked: Asked, think: Mapping[str, object]) -> None:
    """Read the object form of `think`."""
    _check_all(think, tuple(_OBJECT), "think.")
    for name, value in think.items():
        if value is not None:
            _put(asked, _OBJECT[name], value, f"think.{name}")


def _read_reasoning(asked: Asked, body: Mapping[str, object]) -> None:
    """Read OpenAI's and OpenRouter's `reasoning` object."""
    reasoning = _mapping(body, "reasoning")
    _check_all(
        reasoning, ("effort", "max_tokens", "enabled", "exclude", "summary", "generate_summary"), "reasoning."
    )
    if reasoning.get("enabled") is not None:
        _switch(asked, reasoning["enabled"], "reasoning.enabled")
    if reasoning.get("effort") is not None:
        _effort(asked, reasoning["effort"], "reasoning.effort")
    if reasoning.get("max_tokens") is not None:
        _spend(asked, reasoning["max_tokens"], "reasoning.max_tokens")


def _check_anthropic(asked: Asked, budget: object, most: object) -> None:
    """Raise InvalidRequest for a budget that leaves no answer; note one that Anthropic would refuse."""
    if not _is_whole(budget):
        return  # _spend says what is wrong
    assert isinstance(budget, int)
    if _is_whole(most) and isinstance(most, int) and budget >= most:
        raise InvalidRequest(
            f"thinking.budget_tokens must be below max_tokens, {most}, not {budget}",
            field="thinking.budget_tokens",
        )
    if budget < _ANTHROPIC_LEAST:
        asked.notes.append(f"thinking.budget_tokens {budget} is below Anthropic's least, {_ANTHROPIC_LEAST}")


def _switch(asked: Asked, value: object, name: str) -> None:
    """Turn thinking on or off; a level, being more particular, stays."""
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false, not {value!r}", field=name)
    before = asked.options.get("think")
    if value and before is not None and before not in (False, "off"):
        return
    _put(asked, "think", value, name)


def _effort(asked: Asked, value: object, name: str) -> None:
    if value not in _EFFORTS:
        known = ", ".join(_EFFORTS)
        raise InvalidRequest(f"{name} must be one of {known}, not {value!r}", field=name)
    _put(asked, "think", _EFFORTS[str(value)], name)


def _spend(asked: Asked, value: object, name: str) -> None:
    """Set the budget in tokens: -1 is no limit, as llama.cpp has it."""
    if not _is_whole(value) and str(value) != "-1":
        raise InvalidRequest(f"{name} must be a number of tokens, not {value!r}", field=name)
    _put(asked, "think_budget", value, name)


def _put(asked: Asked, option: str, value: object, name: str) -> None:
    """Set an option; where it is set already to something else, the field read last wins, and says so."""
    before = asked.options.get(option)
    is_same = before is None or (before == value and isinstance(before, bool) == isinstance(value, bool))
    is_on = option == "think" and (before is True or before == "on")
    if not is_same and (not is_on or value is False or value == "off"):
        asked.notes.append(f"{name} {_spelled(value)} is taken, not {option} {_spelled(before)}")
    asked.options[option] = value


def _checked(asked: Asked) -> Asked:
    """Let a budget win over every other word on how much to think, and raise what is wrong with the values."""
    options, notes = asked.options, asked.notes
    budget, think = options.get("think_budget"), options.get("think")
    if budget is not None and think is not None:
        is_free = str(budget) == "-1"
        agrees = think is True or think in ("on", "auto") or (is_free and (think is False or think == "off"))
        if not agrees:
            taken = "no limit" if is_free else f"the budget of {budget} tokens"
            notes.append(f"{taken} is taken, not think {_spelled(think)}")
        if not is_free:
            del options["think"]
        elif not agrees:
            options["think"] = "on"
    think_options(options)
    return asked


def _check_names(body: Mapping[str, object], known: tuple[str, ...], prefix: str) -> None:
    """Raise InvalidRequest for a field that is about thinking and unknown here."""
    for name in body:
        if name.lower().startswith(_PREFIXES) and name not in (*known, *_OTHERS):
            _refuse(name, known, prefix)


def _check_all(body: Mapping[str, object], known: tuple[str, ...], prefix: str) -> None:
    """Raise InvalidRequest for any unknown field."""
    for name in body:
        if name not in known:
            _refuse(name, known, prefix)


def _refuse(name: str, known: tuple[str, ...], prefix: str) -> None:
    near = difflib.get_close_matches(name, known, n=1)
    raise InvalidRequest(
        f"unknown field {prefix}{name}; those on thinking are {', '.join(prefix + one for one in known)}",
        field=f"{prefix}{name}",
        hint=f"did you mean {prefix}{near[0]}?" if near else None,
    )


def _mapping(body: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{name} must be an object, not {value!r}", field=name)
    return value


def _present(body: Mapping[str, object], names: tuple[str, ...]) -> dict[str, object]:
    return {name: body[name] for name in names if body.get(name) is not None}


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
