"""The sampling options of one request and the range of each; free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ...errors import InvalidRequest
from .order import DEFAULT_ORDER, LETTERS

# A token, and what must follow it for a sequence breaker to be complete; an empty tail: it is one of its own.
Breakers = Mapping[int, tuple[tuple[int, ...], ...]]

_MOST_LOGPROBS: Final = 1000


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn, and when to stop; the defaults are llama.cpp's.

    temperature: 0 means greedy; top_k: 0 means off; repeat_last_n: -1 means all tokens, 0 none;
    samplers: those that run, in their order; none but the temperature does with mirostat (1 or 2);
    top_n_sigma: 0 and below mean off; adaptive_target: below 0 means off; min_keep: what filters leave at least;
    dry_breakers: the tokens of dry_sequence_breakers (dry.BreakerIndex), for which a vocabulary is needed;
    logprobs: how many of the likeliest tokens to report beside each drawn one; None means no report;
    seed, max_tokens: None means random and unlimited; repeat_stop: rounds of a loop that end an answer, 0 for never.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    samplers: tuple[str, ...] = DEFAULT_ORDER
    min_keep: int = 0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    dry_breakers: Breakers = field(default_factory=dict)
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    adaptive_target: float = -1.0
    adaptive_decay: float = 0.9
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    repeat_stop: int = 0

    @property
    def is_greedy(self) -> bool:
        """Tell whether the most likely token is always taken; penalties and DRY still count."""
        return self.temperature <= 0 and self.dynatemp_range <= 0

    def validate(self) -> None:
        """Raise InvalidRequest, naming the first field that is out of its range."""
        for name, (accepts, words) in _RANGES.items():
            value = getattr(self, name)
            if not accepts(value):
                shown = ", ".join(map(repr, value)) if isinstance(value, tuple) else repr(value)
                raise InvalidRequest(f"{name} must be {words}, not {shown}", field=name)


def _is_number(value: object) -> bool:
    """Tell whether this is an int or float that int64 or float32 can hold; True and False are not numbers here."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < (2**63 if isinstance(value, int) else 3e38)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_bias(value: object) -> bool:
    """Tell whether this maps token ids to numbers; minus infinity bans a token."""
    return isinstance(value, Mapping) and all(
        _is_whole(token) and 0 <= token < 2**31 and (_is_number(bias) or bias == -math.inf)
        for token, bias in value.items()
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) and text for text in value)


def _are_samplers(value: object) -> bool:
    return isinstance(value, tuple) and len(set(value)) == len(value) and set(value) <= set(LETTERS)


_ANY = (_is_number, "a finite number")
_SHARE = (lambda v: _is_number(v) and 0 <= v <= 1, "a number from 0 to 1")
_AT_LEAST_0 = (lambda v: _is_number(v) and v >= 0, "a number of at least 0")
_LAST_N = (lambda v: _is_whole(v) and v >= -1, "a whole number of at least -1 (-1 means all tokens)")

_RANGES: Final[dict[str, tuple[Callable[..., bool], str]]] = {
    "temperature": _AT_LEAST_0,
    "top_k": (lambda v: _is_whole(v) and v >= 0, "a whole number of at least 0 (0 turns it off)"),
    "top_p": _SHARE,
    "min_p": _SHARE,
    "typical_p": (lambda v: _is_number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    "repeat_penalty": (lambda v: _is_number(v) and v > 0, "a number above 0"),
    "repeat_last_n": _LAST_N,
    "presence_penalty": _ANY,
    "frequency_penalty": _ANY,
    "samplers": (_are_samplers, "names of samplers (" + ", ".join(LETTERS) + "), each at most once"),
    "min_keep": (lambda v: _is_whole(v) and v >= 0, "a whole number of at least 0"),
    "top_n_sigma": (_is_number, "a finite number (0 and below turn it off)"),
    "xtc_probability": _SHARE,
    "xtc_threshold": (_SHARE[0], "a number from 0 to 1 (above 0.5 turns it off)"),
    "dry_multiplier": (_AT_LEAST_0[0], "a number of at least 0 (0 turns it off)"),
    "dry_base": (
        lambda v: _is_number(v) and (v == 0 or v >= 1),
        "a number of at least 1, or 0 to turn it off",
    ),
    "dry_allowed_length": (lambda v: _is_whole(v) and v >= 0, "a whole number of at least 0"),
    "dry_penalty_last_n": _LAST_N,
    "dry_sequence_breakers": (_are_texts, "texts, none of them empty"),
    "dynatemp_range": (_AT_LEAST_0[0], "a number of at least 0 (0 turns it off)"),
    "dynatemp_exponent": _AT_LEAST_0,
    "mirostat": (lambda v: _is_whole(v) and v in (0, 1, 2), "0 (off), 1 or 2"),
    "mirostat_tau": _AT_LEAST_0,
    "mirostat_eta": _AT_LEAST_0,
    "adaptive_target": (lambda v: _is_number(v) and v <= 1, "a number of at most 1 (below 0 turns it off)"),
    "adaptive_decay": (lambda v: _is_number(v) and 0 <= v <= 0.99, "a number from 0 to 0.99"),
    "logit_bias": (_is_bias, "a map of token ids to finite numbers (or minus infinity)"),
    "logprobs": (
        lambda v: v is None or (_is_whole(v) and 0 <= v <= _MOST_LOGPROBS),
        f"a whole number from 0 to {_MOST_LOGPROBS}, or absent",
    ),
    "seed": (
        lambda v: v is None or (_is_whole(v) and 0 <= v < 2**64),
        "a whole number from 0 to 2^64 - 1, or absent",
    ),
    "max_tokens": (
        lambda v: v is None or (_is_whole(v) and v >= 0),
        "a whole number of at least 0, or absent",
    ),
    "stop": (_are_texts, "texts, none of them empty"),
    "ignore_eos": (lambda v: isinstance(v, bool), "true or false"),
    "repeat_stop": (
        lambda v: _is_whole(v) and (v == 0 or 2 <= v <= 1000),
        "a whole number from 2 to 1000, or 0 for off",
    ),
}
