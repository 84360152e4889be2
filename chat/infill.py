"""Prompts for models that were trained to fill a gap in a text: what is before it, what is after it, and the gap."""

from __future__ import annotations

from collections.abc import Callable

# Before, after, gap; as Qwen-Coder and CodeGemma, StarCoder and Granite, and DeepSeek-Coder spell
# them. Codestral reads what is after the gap first.
_MARKS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
)
_AFTER_FIRST = ("[SUFFIX]", "[PREFIX]")


def infill_prompt(token_id: Callable[[str], int | None], before: str, after: str) -> str | None:
    """Return the raw prompt for a gap between two texts; None if the vocabulary has no marks for it.

    token_id: the id of a token of this spelling. What the texts spell as marks is taken for them.
    """
    for marks in _MARKS:
        if all(token_id(mark) is not None for mark in marks):
            first, second, gap = marks
            return f"{first}{before}{second}{after}{gap}"
    suffix, prefix = _AFTER_FIRST
    if token_id(suffix) is not None and token_id(prefix) is not None:
        return f"{suffix}{after}{prefix}{before}"
    return None
