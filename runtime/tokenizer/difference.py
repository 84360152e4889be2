"""Whether two models read texts alike: the same pieces under the same ids."""

from __future__ import annotations

from collections.abc import Sequence

from .tokenizer import Tokenizer


def vocabulary_difference(a: Tokenizer, b: Tokenizer) -> str | None:
    """Say how two vocabularies differ, in words; None if they do not, but for padding and control tokens."""
    sizes = (a.vocab_size, b.vocab_size)
    for token in range(max(sizes)):
        known = [
            token < size and tokenizer.is_ordinary(token)
            for size, tokenizer in zip(sizes, (a, b), strict=True)
        ]
        if not any(known):
            continue
        if token >= min(sizes):
            return f"their vocabularies have {sizes[0]} and {sizes[1]} tokens"
        texts = a.token_text(token), b.token_text(token)
        if texts[0] != texts[1]:
            return f"token {token} is {texts[0]!r} to the first and {texts[1]!r} to the second"
    return None


def reading_difference(a: Sequence[int], b: Sequence[int], tokenizer: Tokenizer) -> str | None:
    """Say where the ids of one text differ, in words; None if they do not."""
    for at, (first, second) in enumerate(zip(a, b, strict=False)):
        if first != second:
            texts = tokenizer.token_text(first), tokenizer.token_text(second)
            return f"token {at} of the text is {texts[0]!r} to the first and {texts[1]!r} to the second"
    return None if len(a) == len(b) else f"the text has {len(a)} and {len(b)} tokens"
