"""How much a model is to think, in users' words: options, their values and precedence, and the limits they mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import InvalidRequest
from .options import Sourced

Mode = Literal["auto", "on", "off"]

LEVELS: Mapping[str, float] = {"minimal": 1 / 16, "low": 1 / 8, "medium": 1 / 4, "high": 1 / 2, "max": 4 / 5}
"""Shares of the window, the tokens that prompt and limits leave for thought and answer."""

THINK_OPTIONS = (
    "think", "think_budget", "think_min", "think_rounds", "think_wait", "think_soft", "think_message",
    "think_reserve", "think_loop", "think_exit", "think_history",
)  # fmt: skip

DEFAULT_SOFT = 0.75
DEFAULT_LOOP = 3
_DEFAULT_CONFIDENCE = 0.95
_ROUNDS_FOR_MINIMUM = 2
_RESERVE, _RESERVE_SHARE, _RESERVE_MOST = 256, 1 / 4, 1 / 2
_MODES = ("auto", "on", "off")
_HISTORIES = ("auto", "strip", "last", "keep")
_AMOUNT = "a number of tokens, or a share such as 50%"
_THINK = f"{', '.join((*_MODES, *LEVELS))}, {_AMOUNT}"


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens, or a share of something."""

    tokens: int = 0
    share: float | None = None

    def of(self, whole: int) -> int:
        """Return the number of tokens, given the whole that a share is of."""
        return self.tokens if self.share is None else int(self.share * whole)


@dataclass(frozen=True, slots=True)
class ThinkOptions:
    """What was asked, as values; None leaves the choice to the model's family or to mull.

    level: one of LEVELS, where the budget came from one; loop: repeats that count as a loop, 0 for never; nudge:
    answer a first loop with words; exit: the confidence at which an answer is certain enough.
    """

    mode: Mode = "auto"
    budget: Amount | None = None
    level: str | None = None
    minimum: Amount | None = None
    rounds: int | None = None
    wait: str | None = None
    soft: float = DEFAULT_SOFT
    message: str | None = None
    reserve: Amount | None = None
    loop: int = DEFAULT_LOOP
    nudge: bool = False
    exit: float | None = None
    history: str = "auto"
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int | None:
        """The budget, where it was given as a number of tokens."""
        return None if self.budget is None or self.budget.share is not None else self.budget.tokens

    @property
    def asks(self) -> bool:
        """Whether the model is asked to think, which some cannot."""
        return self.mode == "on"


@dataclass(frozen=True, slots=True)
class Limits:
    """The options as numbers of tokens for one prompt; notes: what the user should know of them."""

    budget: int
    requested: int | None
    minimum: int
    rounds: int
    notes: list[str] = field(default_factory=list)


def merge_thinking(*layers: Mapping[str, Sourced]) -> dict[str, Sourced]:
    """Lay options over one another, the last winning; `think` also replaces a budget from below it, and vice versa.

    To turn thinking on takes away no limit from below.
    """
    merged: dict[str, Sourced] = {}
    for layer in layers:
        if "think_budget" not in layer and _is_on(layer.get("think")) and _has_budget(merged):
            layer = {name: value for name, value in layer.items() if name != "think"}
        if layer.keys() & {"think", "think_budget"}:
            for name in ("think", "think_budget"):
                if name in merged and not _is_mode(merged[name].value):
                    del merged[name]
            if "think_budget" in layer:
                merged.pop("think", None)
        merged |= layer
    return merged


def think_options(values: Mapping[str, object]) -> ThinkOptions:
    """Read the options' values, from texts or JSON alike; raises InvalidRequest that names the field."""
    mode, budget, level = _read_think(values.get("think", "auto"))
    notes: list[str] = []
    own = values.get("think_budget")
    is_free = str(own) == "-1"
    if own is not None:
        if budget is not None or (mode == "off" and not is_free):
            notes.append(f"think_budget {own} is taken, not think {values['think']}")
        if not is_free:
            mode = "on"
        budget, level = None if is_free else _amount("think_budget", own), None
    if budget is not None and budget.of(100) == 0 and budget.share in (None, 0.0):
        mode, budget = "off", None
    minimum = values.get("think_min")
    loop = values.get("think_loop", "on")
    options = ThinkOptions(
        mode=mode,
        budget=budget,
        level=level,
        minimum=None if minimum is None else _amount("think_min", minimum),
        rounds=_whole("think_rounds", values["think_rounds"]) if "think_rounds" in values else None,
        wait=_text("think_wait", values.get("think_wait")),
        soft=_number("think_soft", values.get("think_soft", DEFAULT_SOFT)),
        message=_text("think_message", values.get("think_message")),
        reserve=_amount("think_reserve", values["think_reserve"]) if "think_reserve" in values else None,
        loop=_read_loop(loop),
        nudge=loop == "nudge",
        exit=_read_exit(values.get("think_exit", "off")),
        history=_choice("think_history", values.get("think_history", "auto"), _HISTORIES),
        notes=tuple(notes),
    )
    _check_order(options)
    return options


def resolve(options: ThinkOptions, window: int, closing: int, ceiling: int | None = None) -> Limits:
    """Turn options into limits for a window of tokens; closing: the tokens of a forced end.

    ceiling: the most that whoever runs this allows. Raises InvalidRequest for a reserve that leaves nothing.
    """
    reserve = _reserve(options, window)
    room = max(window - reserve - closing, 0)
    if options.mode == "off":  # and a model that thinks all the same is stopped at once
        return Limits(0, 0, 0, 0, list(options.notes))
    wanted = None if options.budget is None else options.budget.of(window)
    budget = room if wanted is None else min(wanted, room)
    notes = list(options.notes)
    if wanted is not None and wanted > room:
        notes.append(
            f"the thinking budget is {budget} tokens, not {wanted}: {window} are left in all, "
            f"and {reserve} of them are kept for the answer"
        )
    if ceiling is not None and budget > ceiling:
        budget = ceiling
        if wanted is not None:
            notes.append(f"the thinking budget is {budget} tokens, the most that is allowed here")
    minimum = 0 if options.minimum is None else options.minimum.of(budget)
    if minimum > budget:
        notes.append(f"at least {minimum} tokens of thought do not fit into a budget of {budget}")
        minimum = budget
    default_rounds = _ROUNDS_FOR_MINIMUM if minimum else 0
    rounds = default_rounds if options.rounds is None else options.rounds
    return Limits(budget, wanted, minimum, rounds, notes)


def _reserve(options: ThinkOptions, window: int) -> int:
    """Return how many tokens are kept for the answer."""
    if options.reserve is None:
        return max(int(min(max(_RESERVE, window * _RESERVE_SHARE), window * _RESERVE_MOST)), 1)
    reserve = options.reserve.of(window)
    if reserve >= window:
        raise InvalidRequest(
            f"think_reserve keeps {reserve} tokens for the answer, and only {window} are left in all",
            field="think_reserve",
            hint="a smaller reserve, a larger context (--num-ctx) or a larger --num-predict",
        )
    return max(reserve, 1)


def _check_order(options: ThinkOptions) -> None:
    """Raise InvalidRequest for a minimum above the maximum, where both are known already."""
    least, most = options.minimum, options.budget
    if least is None or most is None or most.share is not None:
        return
    if least.of(most.tokens) > most.tokens:
        raise InvalidRequest(
            f"think_min {least.tokens} is above the thinking budget of {most.tokens}", field="think_min"
        )


def _is_on(think: Sourced | None) -> bool:
    return think is not None and (think.value is True or think.value == "on")


def _has_budget(options: Mapping[str, Sourced]) -> bool:
    """Tell whether options limit thoughts, and allow some."""
    amounts = [options[name].value for name in ("think", "think_budget") if name in options]
    return any(not _is_mode(value) and str(value) not in ("-1", "0", "0%") for value in amounts)


def _is_mode(value: object) -> bool:
    return isinstance(value, bool) or value in _MODES


def _read_think(value: object) -> tuple[Mode, Amount | None, str | None]:
    """Return mode, budget and level of a value of `think`."""
    if isinstance(value, bool):
        return ("on" if value else "off"), None, None
    if value == "auto" or value == "on" or value == "off":
        return value, None, None
    if isinstance(value, str) and value in LEVELS:
        return "on", Amount(share=LEVELS[value]), value
    if str(value) == "-1":
        return "on", None, None
    return "on", _amount("think", value, _THINK), None


def _amount(name: str, value: object, words: str = _AMOUNT) -> Amount:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31:
        return Amount(value)
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return Amount(int(value))
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?%", value, re.ASCII):
        share = float(value[:-1]) / 100
        if share <= 1:
            return Amount(share=share)
        raise InvalidRequest(f"{name} {value} is more than all there is", field=name, hint="at most 100%")
    raise InvalidRequest(f"{name} must be {words}, not {value!r}", field=name)


def _whole(name: str, value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequest(f"{name} must be a whole number of at least 0, not {value!r}", field=name)
    return value


def _number(name: str, value: object) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if number is None and isinstance(value, str) and re.fullmatch(r"\d*\.?\d+", value, re.ASCII):
        number = float(value)
    if number is None or not 0 <= number <= 1:
        raise InvalidRequest(f"{name} must be a number from 0 to 1, not {value!r}", field=name)
    return float(number)


def _text(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text, not {value!r}", field=name)
    return value


def _choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise InvalidRequest(f"{name} must be one of {', '.join(choices)}, not {value!r}", field=name)
    return str(value)


def _read_loop(value: object) -> int:
    """Return how many repeats are a loop; `on` and `nudge` mean the usual number, `off` and 0 none."""
    if value is True or value in ("on", "nudge"):
        return DEFAULT_LOOP
    if value in ("off", False) or str(value) == "0":
        return 0
    if isinstance(value, int | str) and re.fullmatch(r"[2-9]|[1-9]\d{1,3}", str(value), re.ASCII):
        return int(value)
    raise InvalidRequest(
        f"think_loop must be on, off, nudge or a number of repeats from 2, not {value!r}", field="think_loop"
    )


def _read_exit(value: object) -> float | None:
    """Return the confidence of `confidence:0.95`; None for `off`."""
    if value in ("off", False, None):
        return None
    match = re.fullmatch(r"confidence(?::(0?\.\d+|1(?:\.0*)?))?", str(value), re.ASCII)
    if match is None:
        raise InvalidRequest(
            f"think_exit must be off, confidence or confidence:0.95, not {value!r}", field="think_exit"
        )
    return float(match[1] or _DEFAULT_CONFIDENCE)
