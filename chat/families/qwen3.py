"""ChatML with Hermes' tool calls, as Qwen and many others write it; Qwen 3 and later think in `<think>`."""

from __future__ import annotations

from dataclasses import replace

from .family import Family

QWEN3 = Family(
    name="qwen3",
    marker="<|im_start|>",
    end_of_turn=("<|im_end|>", "<|endoftext|>"),
    tool_open="<tool_call>",
    tool_close="</tool_call>",
    strip_history=True,
    # The sentence with which Qwen's makers cut a thought.
    message="\n\nConsidering the limited time by the user, I have to give the solution based on the thinking "
    "directly now.",
)
# Tool calls as tags of tags, which also end a thought.
QWEN3_CODER = replace(QWEN3, name="qwen3-coder", more_markers=("<function=",), tool_ends_thought=True)
