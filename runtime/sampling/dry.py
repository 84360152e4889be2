"""DRY, "don't repeat yourself": the longer the repetition that a token would continue, the less likely it gets.

    tokens         a b c c b c y a b c     the latest ten; each number says how many of the last tokens
    match lengths  0 0 3 1 0 2 0 0 0       end here, too: `a b c` once, `b c` once, `c` once

The token after a match would continue it: c after 3, b after 1, y after 2. A match of at least the allowed length L
costs that token multiplier * base ** (length - L). Matches do not reach over a sequence breaker, such as a newline.
(github.com/oobabooga/text-generation-webui/pull/5677; lengths and breakers as in llama.cpp.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from .candidates import Candidates, Floats
from .params import Breakers, SamplingParams

# As in llama.cpp: a breaker's longest text, its most tokens, and where a power of the base would overflow.
_MOST_CHARACTERS: Final = 40
_MOST_TOKENS: Final = 20
_LARGEST_LOG: Final = 88.7228391


class Vocabulary(Protocol):
    """What is asked of a tokenizer to find the tokens of a breaker."""

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""

    def token_bytes(self, token_id: int) -> bytes:
        """Return the exact bytes a token stands for."""

    def encode(self, text: str, *, special: bool = True, parse_special: bool = False) -> list[int]:
        """Return the token ids of a text."""


class DryHistory:
    """A sequence's latest tokens, as many as DRY looks back, and the match length at each of them."""

    def __init__(self, params: SamplingParams, history: Sequence[int] = ()) -> None:
        self._size = size = params.dry_penalty_last_n
        self._least = params.dry_allowed_length
        self._breakers: Breakers = params.dry_breakers
        self._longest_tail = max(
            (len(tail) for tails in self._breakers.values() for tail in tails), default=0
        )
        kept = list(history) if size < 0 else list(history[-size:]) if size else []
        self._tokens: npt.NDArray[np.int64] = np.array(kept, dtype=np.int64)
        self._lengths = match_lengths(kept)
        # How far back the nearest breaker begins whose tails have all had the time to come, and its length then.
        self._settled = self._nearest_breaker(range(self._longest_tail, len(kept)))

    def accept(self, token: int) -> None:
        """Move on by one token."""
        if self._size == 0:
            return
        tokens = np.append(self._tokens, token)
        # A match becomes longer by one where the token after it has come again, and ends elsewhere.
        lengths = np.where(tokens == token, np.append(0, self._lengths) + 1, 0)
        keep = len(tokens) if self._size < 0 else self._size
        self._tokens, self._lengths = tokens[-keep:], lengths[-keep:]
        newly = self._nearest_breaker(range(self._longest_tail, self._longest_tail + 1))
        if newly is not None:
            self._settled = newly
        elif self._settled is not None:
            self._settled = (self._settled[0] + 1, self._settled[1])

    def repetitions(self) -> dict[int, int]:
        """Return the tokens that would continue a repetition, and how long the longest such is by now."""
        count = len(self._tokens)
        limit = self._unbroken(count)
        if count <= self._least or limit < self._least:
            return {}
        # What lies before the window does not count.
        lengths = np.minimum(np.minimum(self._lengths[:-1], np.arange(1, count)), limit)
        where = np.flatnonzero(lengths >= self._least)
        longest: dict[int, int] = {}
        for token, length in zip(self._tokens[where + 1].tolist(), lengths[where].tolist(), strict=True):
            if () not in self._breakers.get(token, ()):
                longest[token] = max(length, longest.get(token, 0))
        return longest

    def _unbroken(self, count: int) -> int:
        """Return how many of the latest tokens follow the nearest breaker; all `count` where there is none."""
        nearest = self._nearest_breaker(range(min(self._longest_tail, count))) or self._settled
        if nearest is None or nearest[0] >= count:
            return count
        return nearest[0] - nearest[1]

    def _nearest_breaker(self, distances: range) -> tuple[int, int] | None:
        """Return the first distance from the end where a breaker begins, and the length of its longest tail."""
        if not self._breakers:
            return None
        tokens = self._tokens
        for distance in distances:
            if distance >= len(tokens):
                return None
            begin = len(tokens) - distance  # one after the head
            tails = self._breakers.get(int(tokens[begin - 1]), ())
            found = [len(tail) for tail in tails if tuple(tokens[begin : begin + len(tail)].tolist()) == tail]
            if found:
                return distance, max(found)
        return None


def match_lengths(tokens: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return for each place [n] how many tokens up to it equal the last tokens; at the last place that is n.

    The Z algorithm, from the end: linear in n.
    """
    count = len(tokens)
    back = list(reversed(tokens))
    common = [count] * count  # common[k]: how many tokens from back[k] on equal those from back[0] on
    left = right = 0  # the match that reaches farthest: back[left:right] equals back[: right - left]
    for k in range(1, count):
        length = min(right - k, common[k - left]) if k < right else 0
        while k + length < count and back[length] == back[k + length]:
            length += 1
        common[k] = length
        if k + length > right:
            left, right = k, k + length
    return np.array(common[::-1], dtype=np.int64)


def penalize_repetitions(candidates: Candidates, history: DryHistory, params: SamplingParams) -> Candidates:
    """Lower the logits of the tokens that would continue a repetition, exponentially in its length."""
    longest = history.repetitions()
    if not longest:
        return candidates
    places, known = candidates.places_of(np.fromiter(longest, np.int64, len(longest)))
    lengths = np.fromiter(longest.values(), np.int64, len(longest))[known]
    if not len(places):
        return candidates
    exponents = lengths - params.dry_allowed_length
    if params.dry_base > 1.000001:
        exponents = np.minimum(exponents, int(_LARGEST_LOG / math.log(params.dry_base)))
    logits: Floats = candidates.logits.copy()
    logits[places] -= params.dry_multiplier * params.dry_base ** exponents.astype(np.float64)
    return Candidates(logits, candidates.ids)


def is_dry(params: SamplingParams) -> bool:
    """Tell whether DRY does anything."""
    return params.dry_multiplier > 0 and params.dry_base >= 1 and params.dry_penalty_last_n != 0


def breakers_of(vocabulary: Vocabulary, texts: Iterable[str]) -> Breakers:
    """Return the tokens that complete or begin one of the texts.

    A token that holds a text is a breaker; one that ends with a text's beginning is one if the rest follows.
    """
    wanted = [(text.encode(), _beginnings(vocabulary, text)) for text in _shortened(texts)]
    found: dict[int, tuple[tuple[int, ...], ...]] = {}
    for token in range(vocabulary.vocab_size if wanted else 0):
        data = vocabulary.token_bytes(token)
        tails: list[tuple[int, ...]] = []
        for whole, beginnings in wanted:
            if whole in data:
                tails.append(())
            elif beginnings:
                tails += [rest for beginning, rest in beginnings if data.endswith(beginning)]
        if tails:
            found[token] = tuple(dict.fromkeys(tails))
    return found


def _shortened(texts: Iterable[str]) -> list[str]:
    return [text[:_MOST_CHARACTERS] for text in texts if text]


def _beginnings(vocabulary: Vocabulary, text: str) -> list[tuple[bytes, tuple[int, ...]]]:
    """Return how a text may begin at the end of one token, and the tokens that must then follow."""
    found = []
    for size in range(1, len(text)):
        rest = vocabulary.encode(text[size:], special=False)
        found.append((text[:size].encode(), tuple(rest[:_MOST_TOKENS])))
    return found


class BreakerIndex:
    """Finds the tokens of DRY's sequence breakers in one vocabulary, and keeps what it has found."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._found: dict[tuple[str, ...], Breakers] = {}

    def fill(self, params: SamplingParams) -> SamplingParams:
        """Return the parameters with their breakers' tokens filled in, if DRY is on."""
        texts = params.dry_sequence_breakers
        if not is_dry(params) or not texts:
            return params
        # To look through a vocabulary takes some tenths of a second.
        if texts not in self._found:
            self._found[texts] = breakers_of(self._vocabulary, texts)
        return replace(params, dry_breakers=self._found[texts])
