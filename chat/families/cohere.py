"""Cohere: Command-A and its kin think between `<|START_THINKING|>` tags, and mark where the answer begins and ends."""

from __future__ import annotations

from dataclasses import replace

from .family import Family

COMMAND_A = Family(
    name="command-a",
    marker="<|START_THINKING|>",
    more_markers=("<|START_RESPONSE|>",),
    open_tag="<|START_THINKING|>",
    close_tag="<|END_THINKING|>",
    end_of_turn=("<|END_OF_TURN_TOKEN|>",),
    tool_marks=("<|START_ACTION|>",),
    hidden=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    close_text="<|END_THINKING|><|START_RESPONSE|>",
    call_close="<|END_THINKING|>",
    close_lead="",
)
COMMAND_MOE = replace(
    COMMAND_A,
    name="command-moe",
    more_markers=("<|START_TEXT|>",),
    hidden=("<|START_TEXT|>", "<|END_TEXT|>"),
    close_text="<|END_THINKING|><|START_TEXT|>",
)
