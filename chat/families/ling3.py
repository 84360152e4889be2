"""Ling 3: `<role>` tags, `<think>` that its template opens or closes, and thoughts that a tool call ends."""

from __future__ import annotations

from .family import Family

LING3 = Family(
    name="ling3",
    marker="<role>HUMAN</role>",
    end_of_turn=("<|role_end|>",),
    tool_open="<tool_call>",
    tool_close="</tool_call>",
    tool_ends_thought=True,
    close_text="</think>",
)
