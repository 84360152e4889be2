"""The sampling options of one request and the range of each; free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ...errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn, and when to stop; the defaults are llama.cpp's.

    temperature: 0 means greedy; top_k: 0 means off; repeat_last_n: -1 means all tokens, 0 none;
    seed, max_tokens: None means random and unlimited.
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
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    @property
    def is_greedy(self) -> bool:
        """Tell whether the most likely token is always taken."""
        return self.temperature <= 0

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


def _are_stops(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) and text for text in value)


_RANGES: Final[dict[str, tuple[Callable[..., bool], str]]] = {
    "temperature": (lambda v: _is_number(v) and v >= 0, "a number of at least 0"),
    "top_k": (lambda v: _is_whole(v) and v >= 0, "a whole number of at least 0 (0 turns it off)"),
    "top_p": (lambda v: _is_number(v) and 0 <= v <= 1, "a number from 0 to 1"),
    "min_p": (lambda v: _is_number(v) and 0 <= v <= 1, "a number from 0 to 1"),
    "typical_p": (lambda v: _is_number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    "repeat_penalty": (lambda v: _is_number(v) and v > 0, "a number above 0"),
    "repeat_last_n": (
        lambda v: _is_whole(v) and v >= -1,
        "a whole number of at least -1 (-1 means all tokens)",
    ),
    "presence_penalty": (_is_number, "a finite number"),
    "frequency_penalty": (_is_number, "a finite number"),
    "logit_bias": (_is_bias, "a map of token ids to finite numbers (or minus infinity)"),
    "seed": (
        lambda v: v is None or (_is_whole(v) and 0 <= v < 2**64),
        "a whole number from 0 to 2^64 - 1, or absent",
    ),
    "max_tokens": (
        lambda v: v is None or (_is_whole(v) and v >= 0),
        "a whole number of at least 0, or absent",
    ),
    "stop": (_are_stops, "texts, none of them empty"),
    "ignore_eos": (lambda v: isinstance(v, bool), "true or false"),
}
