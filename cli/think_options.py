"""The options for how much a model thinks, and what is shown of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Annotated

import typer

_PANEL = "Thinking (where the model can)"
_VALUE = re.compile(r"auto|on|off|minimal|low|medium|high|max|-1|\d+(\.\d+)?%?")


def _thinking(names: str, text: str, metavar: str | None = None) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        *names.split(), help=text, metavar=metavar, rich_help_panel=_PANEL
    )
    return info


@dataclass(frozen=True, slots=True)
class ThinkFlags:
    """How much to think; None is the model's default."""

    think: Annotated[
        str | None,
        _thinking(
            "--think",
            "auto, on, off, minimal, low, medium, high, max, a number of tokens, or P% of the window.",
            "HOW",
        ),
    ] = None
    think_budget: Annotated[
        str | None,
        _thinking("--think-budget", "Think at most N tokens or P% of the window; -1: no limit.", "N|P%"),
    ] = None
    think_min: Annotated[
        str | None, _thinking("--think-min", "Do not stop before N tokens, or P% of the budget.", "N|P%")
    ] = None
    think_rounds: Annotated[
        int | None, _thinking("--think-rounds", "Say 'Wait' at most R times to an early end.", "R")
    ] = None
    think_wait: Annotated[str | None, _thinking("--think-wait", "What to say instead of 'Wait'.", "TEXT")] = (
        None
    )
    think_soft: Annotated[
        float | None,
        _thinking("--think-soft", "Favour an end after this share of the budget; 0: never.", "SHARE"),
    ] = None
    think_message: Annotated[
        str | None, _thinking("--think-message", "Words before a forced end; '' for none.", "TEXT")
    ] = None
    think_reserve: Annotated[
        str | None,
        _thinking("--think-reserve", "Keep N tokens, or P% of the window, for the answer.", "N|P%"),
    ] = None
    think_loop: Annotated[
        str | None,
        _thinking("--think-loop", "End thoughts that go in circles: on, off, nudge, or N repeats.", "HOW"),
    ] = None
    think_exit: Annotated[
        str | None,
        _thinking("--think-exit", "End when the answer is certain: off, confidence[:0.95].", "HOW"),
    ] = None
    think_history: Annotated[
        str | None, _thinking("--think-history", "Earlier thoughts: auto, strip, last, keep.", "HOW")
    ] = None
    hide_thinking: Annotated[bool, _thinking("--hide-thinking", "Do not show thoughts.")] = False
    think_stats: Annotated[bool, _thinking("--think-stats", "Say afterwards how the budget was used.")] = (
        False
    )
    no_log: Annotated[
        bool, _thinking("--no-log", "Keep no record of this: neither counts nor a chat's words.")
    ] = False

    def given(self) -> dict[str, object]:
        """Return the options that were set, by name; raises InvalidRequest for a bad value."""
        from ..chat.thinking import THINK_OPTIONS, think_options

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in values.items() if name in THINK_OPTIONS and value is not None}
        think_options(given)
        return given


def spell_out(args: list[str]) -> list[str]:
    """Give a bare `--think`, which means on, its value, so that what follows it stays a prompt."""
    spelled: list[str] = []
    for at, arg in enumerate(args):
        following = args[at + 1] if at + 1 < len(args) else ""
        bare = arg == "--think" and not _VALUE.fullmatch(following) and "--" not in args[:at]
        spelled.append("--think=on" if bare else arg)
    return spelled
