"""Where a thought may be cut: paragraphs best, then lines, sentences, clauses and words."""

from __future__ import annotations

from collections.abc import Sequence

from .marks import text_at_end

PARAGRAPH, LINE, SENTENCE, CLAUSE, _WORD = 1.0, 0.8, 0.6, 0.15, 0.01
TAIL = 64
"""Bytes of text in which a boundary shows."""

_CLOSERS = "\"'”’»)]}）」』*_`"
_FULL_STOPS = ".?!"
_WIDE_STOPS = "。！？…"
_COMMAS = ",;"
_WIDE_COMMAS = "，；"


def weight(text: str) -> float:
    """Return how good a place the end of `text` is to stop, from 0 (amid a clause) to 1 (after a paragraph)."""
    bare = text.rstrip(" \t")
    if bare.endswith("\n"):
        return PARAGRAPH if bare[:-1].rstrip(" \t\r").endswith("\n") else LINE
    spaced = len(bare) < len(text)
    unquoted = bare.rstrip(_CLOSERS)
    if not unquoted:
        return 0.0
    last, before = unquoted[-1], unquoted[-2:-1]
    if last in _WIDE_STOPS:
        return SENTENCE
    if last in _WIDE_COMMAS:
        return CLAUSE
    # The point of 3.14, the comma of 1,000 and the stroke of an ellipsis may still go on.
    open_number = before.isdigit() and not spaced
    if last in _FULL_STOPS:
        return 0.0 if open_number else SENTENCE
    if last in _COMMAS:
        return 0.0 if open_number else CLAUSE
    return 0.0


def best_cut(pieces: Sequence[bytes], least: int, most: int) -> int:
    """Return how many tokens to take off the end, from `least` to `most`: of equally good places, the latest."""
    best, best_place = least, -1.0
    for drop in range(least, most + 1):
        kept = pieces[: len(pieces) - drop]
        text, following = text_at_end(kept, TAIL), text_at_end(pieces[len(kept) :][:1], 1)
        amid_word = text[-1:].isalnum() and following[:1].isalnum()
        place = weight(text) or (0.0 if amid_word else _WORD)
        if place > best_place:
            best, best_place = drop, place
    return best
