"""Mistral: `[INST]` turns; Magistral and Ministral think in `[THINK]`."""

from __future__ import annotations

from dataclasses import replace

from .family import Family

MISTRAL = Family(name="mistral", marker="[INST]", end_of_turn=("</s>",))
MAGISTRAL = replace(
    MISTRAL,
    name="magistral",
    more_markers=("[THINK]",),
    open_tag="[THINK]",
    close_tag="[/THINK]",
    tool_marks=("[TOOL_CALLS]",),
    strip_history=True,
    close_lead="",
    close_text="[/THINK]",
)
