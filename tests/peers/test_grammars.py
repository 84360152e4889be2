"""GBNF: after every token of random texts llama.cpp's own grammar allows what ours allows, on a real vocabulary."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from mull.models.checkpoint.open import open_checkpoint
from mull.runtime.grammar.constraint import Constraint
from mull.runtime.grammar.engine import GrammarEngine
from mull.runtime.grammar.processor import GrammarProcessor
from mull.runtime.tokenizer.load import load_tokenizer
from mull.runtime.tokenizer.tokenizer import Tokenizer
from peers.binding import Peer

pytestmark = pytest.mark.peer

OURS = {
    "literals": 'root ::= "abc" "y" | [a-z] [a-z] [a-z] "x"',
    "words": 'root ::= word " " word ("(" root ")")?\nword ::= [a-z ]+',
    "counts": r'root ::= ("a" | "bc"){2,5} .{3} [^\x00-\x7F"]* "\u00e9"?',
    "nested": 'root ::= "[" (root ("," root)*)? "]" | [0-9]+',
}


def grammars() -> dict[str, str]:
    """Return our grammars and those that come with llama-cpp-python."""
    try:
        from llama_cpp import llama_grammar
    except (ImportError, OSError, RuntimeError):
        return OURS
    names = [name for name in dir(llama_grammar) if name.endswith("_GBNF")]
    return OURS | {name.removesuffix("_GBNF").lower(): getattr(llama_grammar, name) for name in names}


class PeerGrammar:
    """llama.cpp's sampler for one grammar."""

    def __init__(self, peer: Peer, grammar: str) -> None:
        self.native = peer.native
        self.size = peer.vocab_size
        self.sampler = self.native.llama_sampler_init_grammar(peer.vocab, grammar.encode(), b"root")
        assert self.sampler, "llama.cpp does not take the grammar"
        self.data = (self.native.llama_token_data * self.size)()
        self.numbers = np.ctypeslib.as_array(self.data)

    def allowed(self) -> set[int]:
        """Return the tokens that may come next, those that end the text among them."""
        self.numbers["id"] = np.arange(self.size)
        self.numbers["logit"] = 0.0
        array = self.native.llama_token_data_array(self.data, self.size, -1, False)
        self.native.llama_sampler_apply(self.sampler, ctypes.byref(array))
        return set(self.numbers["id"][self.numbers["logit"] > -1].tolist())

    def accept(self, token: int) -> None:
        """Move on by one token."""
        self.native.llama_sampler_accept(self.sampler, token)


@contextmanager
def peer_grammar(peer: Peer, grammar: str) -> Iterator[PeerGrammar]:
    """Free the sampler at the end."""
    followed = PeerGrammar(peer, grammar)
    try:
        yield followed
    finally:
        peer.native.llama_sampler_free(followed.sampler)


def whole_characters(tokenizer: Tokenizer) -> set[int]:
    """Return the tokens that both read alike.

    llama.cpp is wrong about halves of characters in negated classes, takes bytes that are no UTF-8, ends every text
    at a NUL, and takes `</s>` for an end wherever it stands.
    """
    found = set()
    for token in range(tokenizer.vocab_size):
        text = tokenizer.token_bytes(token)
        with suppress(UnicodeDecodeError):
            if text.decode() not in ("\0", "</s>"):
                found.add(token)
    return found - tokenizer.eos_ids


@pytest.mark.parametrize("name", grammars())
def test_the_same_tokens_are_allowed(name: str, shared_data: Path) -> None:
    path = shared_data / "tokenizers" / "ggml-vocab-gpt-2.gguf"
    source = grammars()[name]
    with open_checkpoint(path) as checkpoint, Peer(path, vocab_only=True) as peer:
        tokenizer = load_tokenizer(checkpoint)
        compiled = GrammarEngine(tokenizer).compile(Constraint("gbnf", source))
        known, compared = whole_characters(tokenizer), 0
        for seed in range(2):
            rng = random.Random(seed)
            ours = GrammarProcessor(compiled, lambda: True, eos_ids=tokenizer.eos_ids)
            with peer_grammar(peer, source) as theirs:
                for _ in range(12):
                    row = ours.apply(torch.zeros(tokenizer.vocab_size))
                    allowed, expected = set((row == 0).nonzero()[:, 0].tolist()), theirs.allowed()
                    ends = tokenizer.eos_ids
                    assert bool(allowed & ends) == bool(expected & ends)
                    allowed, expected = allowed & known, expected & known
                    # Where one text is forced, only the model's own way to split it is allowed.
                    assert allowed == expected or (len(allowed) == 1 and allowed < expected)
                    compared += len(expected)
                    if not allowed:
                        break
                    # Short tokens come often, or the text would be over at once.
                    token = min(
                        rng.sample(sorted(allowed), min(3, len(allowed))),
                        key=lambda t: len(tokenizer.token_bytes(t)),
                    )
                    ours.accept(token)
                    theirs.accept(token)
        assert compared > 0
