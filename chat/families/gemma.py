"""Gemma 2 and 3: turns of `user` and `model`, and no system role of its own in Gemma 2."""

from __future__ import annotations

from .family import Family

GEMMA = Family(name="gemma", marker="<start_of_turn>", end_of_turn=("<end_of_turn>", "<eos>"))
