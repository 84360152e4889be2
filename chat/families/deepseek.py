"""DeepSeek: full-width markers; R1's template opens `<think>` itself, later ones may close it at once."""

from __future__ import annotations

from .family import Family

DEEPSEEK = Family(
    name="deepseek",
    marker="<｜Assistant｜>",
    end_of_turn=("<｜end▁of▁sentence｜>",),
    strip_history=True,
)
