"""Prompts for a gap in a text, as the vocabulary has marks for it."""

from __future__ import annotations

import pytest
from mull.chat.infill import infill_prompt


@pytest.mark.parametrize(
    ("marks", "prompt"),
    [
        ("<|fim_prefix|> <|fim_suffix|> <|fim_middle|>", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"),
        ("<fim_prefix> <fim_suffix> <fim_middle>", "<fim_prefix>a<fim_suffix>b<fim_middle>"),
        ("<｜fim▁begin｜> <｜fim▁hole｜> <｜fim▁end｜>", "<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>"),
        ("[SUFFIX] [PREFIX]", "[SUFFIX]b[PREFIX]a"),
        ("<|fim_prefix|> <|fim_suffix|>", None),
        ("", None),
    ],
)
def test_the_marks_of_each_vocabulary(marks, prompt):
    ids = {mark: index for index, mark in enumerate(marks.split())}
    assert infill_prompt(ids.get, "a", "b") == prompt
