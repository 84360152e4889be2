"""A small tokenizer with words, white space and tags, and the draws of a model that knows nothing."""

from __future__ import annotations

import torch
import vocabularies
from mull.runtime.grammar.processor import GrammarProcessor
from mull.runtime.tokenizer.gguf import tokenizer_from_gguf
from mull.runtime.tokenizer.tokenizer import Tokenizer


def small_tokenizer() -> Tokenizer:
    return tokenizer_from_gguf(vocabularies.byte_level())


def generate(
    processor: GrammarProcessor, tokenizer: Tokenizer, seed: int, most: int = 400, spread: float = 3.0
) -> tuple[str, bool]:
    """Draw from random logits until the end or `most` tokens; return the text, and whether it ended."""
    rng = torch.Generator().manual_seed(seed)
    ids: list[int] = []
    for _ in range(most):
        logits = processor.apply(torch.randn(tokenizer.vocab_size, generator=rng) * spread)
        assert (logits > -torch.inf).any(), f"no token is allowed after {tokenizer.decode(ids)!r}"
        # Where an answer may end it soon does, so that most of them do.
        ends = [token for token in tokenizer.eos_ids if logits[token] > -torch.inf]
        logits[ends] += 2 * spread
        token = int(torch.multinomial(logits.softmax(-1), 1, generator=rng))
        processor.accept(token)
        if token in tokenizer.eos_ids:
            return tokenizer.decode(ids), True
        ids.append(token)
    return tokenizer.decode(ids), False
