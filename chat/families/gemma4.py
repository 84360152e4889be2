"""Gemma 4: thoughts in a channel of their own, which an empty one switches off."""

from __future__ import annotations

from .family import Family

GEMMA4 = Family(
    name="gemma4",
    marker="<|turn>",
    open_tag="<|channel>thought\n",
    close_tag="<channel|>",
    end_of_turn=("<turn|>",),
    tool_marks=("<|tool_call>",),
    strip_history=True,
    close_text="<channel|>",
    unanswerable=("<|channel>",),
)
