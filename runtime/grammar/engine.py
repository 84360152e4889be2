"""Constraints compiled for one vocabulary; llguidance is imported when the first is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from .constraint import Constraint
from .landing import Landing

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from .library import TokenizerLike

_MAX_COMPILED = 32


@dataclass(frozen=True, slots=True)
class CompiledGrammar:
    """A constraint for one vocabulary, ready to be followed by any number of sequences.

    spaces: the tokens that are nothing but white space; opening: the tag that begins a thought, in tokens.

    triggers: texts after which the grammar holds, instead of from the answer's beginning; where it is followed to its
    end, the answer is free again, or with `once` it ends; landing: what brings a JSON answer to its end in time.
    """

    constraint: Constraint
    vocab_size: int
    spaces: frozenset[int]
    opening: tuple[int, ...]
    _start: LLMatcher
    _library: LLTokenizer
    _tokens: Sequence[bytes]
    triggers: tuple[bytes, ...] = ()
    once: bool = False
    landing: Landing | None = None

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of a token."""
        return self._tokens[token] if token < len(self._tokens) else b""

    def split(self, data: bytes) -> list[int]:
        """Return tokens that spell some bytes."""
        return self._library.tokenize_bytes(data)

    def after(self, *triggers: str, once: bool = False) -> CompiledGrammar:
        """Return the same grammar, to be followed whenever an answer comes to one of these texts."""
        return replace(self, triggers=tuple(text.encode() for text in triggers), once=once)

    def matcher(self) -> LLMatcher:
        """Return a matcher at the beginning of the grammar."""
        return self._start.deep_copy()


class GrammarEngine:
    """Compiles constraints for one tokenizer; safe to share between threads.

    open_tag: what begins a thought; tags: what else a reply's parser looks for. Where a tag is one token, no grammar
    may use that token as text.
    """

    def __init__(
        self, tokenizer: TokenizerLike, open_tag: str | None = None, tags: Iterable[str | None] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._open_tag = (open_tag or "").strip()
        self._tags = [tag for tag in (self._open_tag, *((tag or "").strip() for tag in tags)) if tag]
        self._lock = Lock()
        self._vocabulary: tuple[LLTokenizer, frozenset[int], tuple[int, ...], Sequence[bytes]] | None = None
        self._compiled: dict[Constraint, CompiledGrammar] = {}
        self._landing: Landing | None = None

    def compile(self, constraint: Constraint) -> CompiledGrammar:
        """Return the constraint ready to be followed.

        Raises InvalidRequest for what cannot be enforced, accepts nothing, or is too large to follow.
        """
        with self._lock:
            found = self._compiled.get(constraint)
            if found is None:
                found = self._compile(constraint)
                if len(self._compiled) >= _MAX_COMPILED:
                    del self._compiled[next(iter(self._compiled))]
                self._compiled[constraint] = found
        return found

    def _compile(self, constraint: Constraint) -> CompiledGrammar:
        from .library import library_grammar, new_matcher, refuse_empty

        grammar = library_grammar(constraint)
        if self._vocabulary is None:
            self._vocabulary = self._load()
        library, spaces, opening, tokens = self._vocabulary
        start = new_matcher(library, grammar, constraint)
        refuse_empty(start, library.eos_token, constraint)
        size = self._tokenizer.vocab_size
        landing = None
        if constraint.kind in ("json", "schema"):
            landing = self._landing = self._landing or Landing(tokens, spaces)
        return CompiledGrammar(constraint, size, spaces, opening, start, library, tokens, landing=landing)

    def _load(self) -> tuple[LLTokenizer, frozenset[int], tuple[int, ...], Sequence[bytes]]:
        from .library import Vocabulary, load_vocabulary

        ids = {tag: self._tokenizer.encode(tag, special=False, parse_special=True) for tag in self._tags}
        vocabulary = Vocabulary(self._tokenizer, {split[0] for split in ids.values() if len(split) == 1})
        spaces = frozenset(
            token for token, text in enumerate(vocabulary.tokens) if text and not text.strip(b" \t\r\n")
        )
        opening = tuple(ids.get(self._open_tag, ()))
        return load_vocabulary(vocabulary), spaces, opening, vocabulary.tokens
