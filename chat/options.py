"""Which value an option has and who set it: request, Modelfile, the model's own files, or mull."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import InvalidRequest
from ..runtime.sampling.order import known_samplers, parse_samplers
from ..runtime.sampling.params import SamplingParams

# Users' names (Ollama's) of what SamplingParams calls otherwise.
_FIELDS = {"num_predict": "max_tokens"}

OPTIONS = (
    "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "repeat_last_n", "presence_penalty",
    "frequency_penalty", "samplers", "min_keep", "top_n_sigma", "xtc_probability", "xtc_threshold", "dry_multiplier",
    "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers", "dynatemp_range",
    "dynatemp_exponent", "mirostat", "mirostat_tau", "mirostat_eta", "adaptive_target", "adaptive_decay",
    "logit_bias", "logprobs", "seed", "num_predict", "stop", "ignore_eos",
    "repeat_stop",
)  # fmt: skip

SELDOM = frozenset(OPTIONS[OPTIONS.index("samplers") : OPTIONS.index("logit_bias")])
"""Those that are off unless somebody sets them."""

# How generation_config.json and GGUF's general.sampling.* spell them.
_FOREIGN = {
    "temp": "temperature",
    "repetition_penalty": "repeat_penalty",
    "penalty_repeat": "repeat_penalty",
    "penalty_last_n": "repeat_last_n",
    "sequence": "samplers",
}
_FROM_MODEL = (
    "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "repeat_last_n", "samplers",
    "xtc_probability", "xtc_threshold", "mirostat", "mirostat_tau", "mirostat_eta",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sourced:
    """A value and who set it: "request", "modelfile", "generation_config", "gguf" or "mull"."""

    value: object
    source: str


def our_defaults() -> dict[str, Sourced]:
    """Return every option with mull's own default."""
    plain = SamplingParams()
    return {name: Sourced(getattr(plain, _FIELDS.get(name, name)), "mull") for name in OPTIONS}


def model_defaults(generation: Mapping[str, object], source: str) -> dict[str, Sourced]:
    """Return the options that a model's own files recommend, under users' names; others there are ignored."""
    named = {_FOREIGN.get(key, key): value for key, value in generation.items()}
    if isinstance(named.get("samplers"), str):
        named["samplers"] = known_samplers(str(named["samplers"]))
    return {name: Sourced(named[name], source) for name in _FROM_MODEL if named.get(name) is not None}


def merge(*layers: Mapping[str, Sourced]) -> dict[str, Sourced]:
    """Lay options over one another, the last winning."""
    merged: dict[str, Sourced] = {}
    for layer in layers:
        merged |= layer
    return merged


def from_user(options: Mapping[str, object], source: str) -> dict[str, Sourced]:
    """Return the options that a Modelfile or a request sets; raises InvalidRequest for an unknown one."""
    for name in options:
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            raise InvalidRequest(
                f"unknown option '{name}'", field=name, hint=f"did you mean {near[0]}?" if near else None
            )
    return {name: Sourced(value, source) for name, value in options.items() if value is not None}


def sampling_params(options: Mapping[str, Sourced]) -> SamplingParams:
    """Return validated parameters; raises InvalidRequest naming the field that is out of range.

    num_predict below 0 (Ollama's -1 and -2) means no limit, a negative seed a random one, a negative top_k all;
    logprobs may be true, for 0, or false; the one sequence breaker "none" means that there is none (llama.cpp).
    """
    values = {_FIELDS.get(name, name): sourced.value for name, sourced in options.items()}
    values["stop"] = _texts(values.get("stop") or ())
    if "dry_sequence_breakers" in values:
        breakers = _texts(values["dry_sequence_breakers"])
        values["dry_sequence_breakers"] = () if breakers == ("none",) else breakers
    if "samplers" in values:
        values["samplers"] = parse_samplers(values["samplers"])
    if isinstance(values.get("logprobs"), bool):
        values["logprobs"] = 0 if values["logprobs"] else None
    for name, neutral in (("max_tokens", None), ("seed", None), ("top_k", 0)):
        value = values.get(name)
        if isinstance(value, int) and value < 0:
            values[name] = neutral
    params = SamplingParams(**values)  # type: ignore[arg-type]  # validate() checks what they are
    try:
        params.validate()
    except InvalidRequest as error:
        ours = error.field or ""
        theirs = next((name for name, field in _FIELDS.items() if field == ours), ours)
        raise InvalidRequest(error.message.replace(ours, theirs, 1), field=theirs) from None
    return params


def _texts(value: object) -> object:
    """Return one text or several as a tuple; what is neither as it is."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else value
