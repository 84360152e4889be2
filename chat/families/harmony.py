"""Harmony (gpt-oss): a reply is several messages, each with a header that names its channel; thinking cannot be off."""

from __future__ import annotations

from .family import Family

_ANALYSIS = "<|channel|>analysis<|message|>"
_FINAL = "<|start|>assistant<|channel|>final<|message|>"

HARMONY = Family(
    name="harmony",
    marker=_ANALYSIS,
    open_tag=_ANALYSIS,
    close_tag="<|end|>",
    end_of_turn=("<|return|>", "<|call|>"),
    # After a bare <|end|> the model may well begin another analysis.
    close_text=f"<|end|>{_FINAL}",
    close_lead="",
    interleaved=True,
    strip_history=True,
    off_text=f"{_ANALYSIS}<|end|>{_FINAL}",
    header_begins=("<|start|>", "<|channel|>"),
    header_ends=("<|message|>",),
    # What is said in the commentary channel to nobody in particular is said to the user.
    answer_marks=("<|channel|>final", "<|channel|>commentary"),
    answer_header=_FINAL,
    call_close="<|end|><|start|>assistant",
)
