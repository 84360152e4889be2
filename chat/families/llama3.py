"""Llama 3: a header per turn; a turn ends with `<|eot_id|>`, or `<|eom_id|>` before a tool answers."""

from __future__ import annotations

from .family import Family

LLAMA3 = Family(
    name="llama3",
    marker="<|start_header_id|>",
    end_of_turn=("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
)
