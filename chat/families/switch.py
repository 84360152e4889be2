"""Which variables of a chat template turn thinking on and off."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Literal

# name -> value that turns thinking on, value that turns it off
_PLAIN_SWITCHES: dict[str, tuple[object, object]] = {
    "enable_thinking": (True, False),
    "thinking": (True, False),
    "thinking_mode": ("enabled", "disabled"),
    "thinking_budget": (-1, 0),
}
# Level of thinking -> the efforts that mean it, the best first.
_EFFORTS = {
    "minimal": ("minimal", "low"), "low": ("low",), "medium": ("medium",), "high": ("high",),
    "max": ("max", "xhigh", "high"),
}  # fmt: skip
# Efforts that mean "do not think", as one template or another spells them.
_NO_EFFORT = ("none", "no_think", "minimal")
_EFFORT_NAMES = ("reasoning_effort", "thinking_effort", "reasoning_strength")


@dataclass(frozen=True, slots=True)
class Switch:
    """The variables to pass for each mode; an empty mapping where the template offers no such switch.

    efforts: the value of the variable `effort` for each level; budget: the variable that takes a number of tokens,
    a multiple of `step`.
    """

    on: Mapping[str, object] = field(default_factory=dict)
    off: Mapping[str, object] = field(default_factory=dict)
    efforts: Mapping[str, str] = field(default_factory=dict)
    budget: str | None = None
    effort: str = "reasoning_effort"
    step: int = 1

    def variables(
        self, think: Literal["auto", "on", "off"], level: str | None = None, budget: int | None = None
    ) -> Mapping[str, object]:
        """Return the template variables for a thinking mode; none for "auto".

        level: how much to think, in words; budget: in tokens.
        """
        found = dict({"on": self.on, "off": self.off}.get(think, {}))
        if level is not None and level in self.efforts:
            found[self.effort] = self.efforts[level]
        if self.budget is not None and budget is not None:
            # Rounded down, so that the model ends by itself; 0 would tell it not to think at all.
            found[self.budget] = max(budget // self.step, 1) * self.step
        return found


def find_switch(names: Set[str], constants: Set[str]) -> Switch:
    """Find the switch of a template that reads the variables `names` and holds the literals `constants`."""
    on: dict[str, object] = {}
    off: dict[str, object] = {}
    for name, (yes, no) in _PLAIN_SWITCHES.items():
        # A word that the template never compares with is not its word.
        if name in names and (not isinstance(no, str) or no in constants):
            on[name], off[name] = yes, no
    if not off and "reasoning_effort" in names:
        if "high" in constants:
            on["reasoning_effort"] = "high"
        for effort in _NO_EFFORT:
            if effort in constants:
                off["reasoning_effort"] = effort
                break
    efforts = {}
    read = next((name for name in _EFFORT_NAMES if name in names), None)
    if read is not None:
        for level, words in _EFFORTS.items():
            efforts[level] = next((word for word in words if word in constants), words[-1])
    budget = "thinking_budget" if "thinking_budget" in names else None
    return Switch(on, off, efforts, budget, read or _EFFORT_NAMES[0])
