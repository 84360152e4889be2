"""DeepSeek: full-width markers; R1's template opens `<think>` itself, later ones may close it at once."""

from __future__ import annotations

from dataclasses import replace

from .family import Family

DEEPSEEK = Family(
    name="deepseek",
    marker="<｜Assistant｜>",
    end_of_turn=("<｜end▁of▁sentence｜>",),
    tool_marks=("<｜tool▁calls▁begin｜>", "<｜DSML｜"),
    strip_history=True,
    tool_ends_thought=True,
)
# Those that need not think write the tags without a line break.
DEEPSEEK_HYBRID = replace(
    DEEPSEEK, name="deepseek-v3", more_markers=("set thinking = false",), close_text="</think>"
)
