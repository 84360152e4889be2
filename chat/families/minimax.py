"""MiniMax: M2's template opens `<think>` itself and keeps earlier thoughts; M3 has tags and a switch of its own."""

from __future__ import annotations

from dataclasses import replace

from .family import Family

MINIMAX = Family(
    name="minimax",
    marker="]~b]",
    end_of_turn=("[e~[",),
    tool_marks=("<minimax:tool_call>",),
)
MINIMAX_M3 = replace(
    MINIMAX,
    name="minimax-m3",
    more_markers=("<mm:think>",),
    open_tag="<mm:think>",
    close_tag="</mm:think>",
    close_lead="",
    close_text="</mm:think>",
)
