"""Solar Open: thought, answer and calls are messages that begin with `<|begin|>assistant` and end with `<|end|>`."""

from __future__ import annotations

from .family import Family

_CONTENT = "<|begin|>assistant<|content|>"

SOLAR = Family(
    name="solar",
    marker="<|begin|>",
    more_markers=("<|think|>", "<|content|>"),
    open_tag="<|think|>",
    close_tag="<|end|>",
    end_of_turn=("<|flush|>", "<|calls|>"),
    close_text=f"<|end|>{_CONTENT}",
    close_lead="",
    strip_history=True,
    header_begins=("<|begin|>",),
    header_ends=("<|think|>", "<|content|>", "<|tool_calls|>"),
    answer_marks=("<|content|>",),
    answer_header=_CONTENT,
    call_close="<|end|><|begin|>assistant",
)
