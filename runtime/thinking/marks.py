"""Finds texts at the end of a growing list of tokens, wherever the vocabulary cuts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """A text, or the beginning of one, at the end of the tokens.

    index: which text; num_tokens: the tokens from the one in which it begins; shared: that token holds more before
    it; complete: the whole text is there.
    """

    index: int
    num_tokens: int
    shared: bool
    complete: bool


def find_at_end(pieces: Sequence[bytes], texts: Sequence[bytes]) -> Found | None:
    """Return the text that the last token completes, or else the longest beginning that the tokens end with."""
    if not texts or not pieces:
        return None
    tail = _tail(pieces, max(map(len, texts)) + len(pieces[-1]))
    for index, text in enumerate(texts):
        start = tail.find(text, max(0, len(tail) - len(pieces[-1]) - len(text) + 1))
        if start >= 0:
            return _cover(pieces, len(tail) - start, index, complete=True)
    best, index = max((_overlap(tail, text), -number) for number, text in enumerate(texts))
    return _cover(pieces, best, -index, complete=False) if best else None


def unfinished_tokens(pieces: Sequence[bytes]) -> int:
    """Return how many tokens at the end hold the bytes of a UTF-8 character that is not complete."""
    tail = _tail(pieces, 4)
    for back in range(1, min(4, len(tail)) + 1):
        byte = tail[-back]
        if byte < 0x80:
            return 0
        if byte >= 0xC0:
            needed = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return _cover(pieces, back, 0, complete=False).num_tokens if back < needed else 0
    return 0


def text_at_end(pieces: Sequence[bytes], num_bytes: int) -> str:
    """Return the last text of about `num_bytes` bytes, without half a character at its beginning."""
    return _tail(pieces, num_bytes).decode("utf-8", "ignore")


def _tail(pieces: Sequence[bytes], num_bytes: int) -> bytes:
    """Return the bytes of as many whole tokens as hold `num_bytes`."""
    found: list[bytes] = []
    size = 0
    for piece in reversed(pieces):
        found.append(piece)
        size += len(piece)
        if size >= num_bytes:
            break
    return b"".join(reversed(found))


def _overlap(tail: bytes, text: bytes) -> int:
    """Return the length of the longest proper beginning of `text` that ends `tail`."""
    for length in range(min(len(text) - 1, len(tail)), 0, -1):
        if tail.endswith(text[:length]):
            return length
    return 0


def _cover(pieces: Sequence[bytes], num_bytes: int, index: int, *, complete: bool) -> Found:
    """Count the tokens that hold the last `num_bytes` bytes."""
    count, size = 0, 0
    while size < num_bytes:
        count += 1
        size += len(pieces[-count])
    return Found(index, count, size > num_bytes, complete)
