"""Mistral: `[INST]` turns; Magistral and Ministral think in `[THINK]`."""

from __future__ import annotations

from .family import Family

MISTRAL = Family(name="mistral", marker="[INST]", end_of_turn=("</s>",))
