"""Kimi: roles end with `<|im_middle|>`; the first that think do so in `◁think▷`, spelled letter by letter."""

from __future__ import annotations

from dataclasses import replace

from .family import Family

KIMI = Family(
    name="kimi",
    marker="<|im_middle|>",
    end_of_turn=("<|im_end|>", "[EOS]"),
    tool_marks=("<|tool_calls_section_begin|>",),
    tool_ends_thought=True,
    strip_history=True,
    close_text="</think>",
    off_text="<think></think>",
)
KIMI_TRIANGLE = replace(
    KIMI,
    name="kimi-triangle",
    more_markers=("◁think▷",),
    open_tag="◁think▷",
    close_tag="◁/think▷",
    close_text="◁/think▷",
    off_text="◁think▷◁/think▷",
)
