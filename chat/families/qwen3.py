"""ChatML with Hermes' tool calls, as Qwen and many others write it; Qwen 3 and later think in `<think>`."""

from __future__ import annotations

from .family import Family

QWEN3 = Family(
    name="qwen3",
    marker="<|im_start|>",
    end_of_turn=("<|im_end|>", "<|endoftext|>"),
    tool_open="<tool_call>",
    tool_close="</tool_call>",
    strip_history=True,
)
