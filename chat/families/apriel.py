"""Apriel: the thought has a heading instead of a tag, and the answer a beginning and an end."""

from __future__ import annotations

from .family import Family

APRIEL = Family(
    name="apriel",
    marker="[BEGIN FINAL RESPONSE]",
    open_tag="Here are my reasoning steps:\n",
    close_tag="[BEGIN FINAL RESPONSE]",
    end_of_turn=("<|end|>",),
    hidden=("[END FINAL RESPONSE]",),
    strip_history=True,
    close_text="[BEGIN FINAL RESPONSE]\n",
)
