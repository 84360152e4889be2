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
# Efforts that mean "do not think", as one template or another spells them.
_NO_EFFORT = ("none", "no_think", "minimal")


@dataclass(frozen=True, slots=True)
class Switch:
    """The variables to pass for each mode; an empty mapping where the template offers no such switch."""

    on: Mapping[str, object] = field(default_factory=dict)
    off: Mapping[str, object] = field(default_factory=dict)

    def variables(self, think: Literal["auto", "on", "off"]) -> Mapping[str, object]:
        """Return the template variables for a thinking mode; none for "auto"."""
        return {"on": self.on, "off": self.off}.get(think, {})


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
    return Switch(on, off)
