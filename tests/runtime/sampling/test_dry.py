"""Tests of DRY: llama.cpp's published cases, its algorithm against plain counting, breakers, windows."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mull.runtime.sampling.candidates import Candidates, softmax
from mull.runtime.sampling.dry import (
    BreakerIndex,
    DryHistory,
    breakers_of,
    match_lengths,
    penalize_repetitions,
)
from mull.runtime.sampling.params import Breakers, SamplingParams
from rows import candidates

TOKENS = st.lists(st.integers(0, 3), max_size=40)
BREAKERS = st.dictionaries(
    st.integers(0, 3),
    st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), max_size=2).map(tuple),
    max_size=2,
)


class Words:
    """A vocabulary of these words; a text is encoded character by character, as code points."""

    def __init__(self, *words: str) -> None:
        self._words = [word.encode() for word in words]
        self.vocab_size = len(words)

    def token_bytes(self, token_id: int) -> bytes:
        return self._words[token_id]

    def encode(self, text: str, *, special: bool = True, parse_special: bool = False) -> list[int]:
        return [ord(character) for character in text]


def dry(**options: object) -> SamplingParams:
    """Return parameters with DRY on, and no breakers."""
    return SamplingParams(**{"dry_multiplier": 1.0, "dry_base": 1.1, "dry_penalty_last_n": -1, **options})


@pytest.mark.parametrize(
    ("history", "expected", "options"),
    [
        ([0, 1], [0.25] * 4, {}),
        ([0, 1, 2, 0, 1], [0.296923, 0.296923, 0.109232, 0.296923], {}),
        ([0, 1, 3, 4, 0, 1], [0.2] * 5, {"dry_breakers": {3: ((),)}}),
        ([0, 1, 2, 0, 1], [0.241818, 0.241818, 0.032727, 0.241818, 0.241818], {"dry_multiplier": 2.0}),
        ([0, 1, 2, 3, 4, 0, 1], [0.2] * 5, {"dry_allowed_length": 4}),
    ],
)
def test_dry_as_published(history, expected, options):
    params = dry(dry_penalty_last_n=len(history), **options)
    start = candidates([1 / len(expected)] * len(expected))
    found = penalize_repetitions(start, DryHistory(params, history), params)
    assert softmax(found).tolist() == pytest.approx(expected, abs=1e-5)


def test_the_documented_example():
    tokens = ["abccbcyabc".index(letter) for letter in "abccbcyabc"]
    assert match_lengths(tokens).tolist() == [0, 0, 3, 1, 0, 2, 0, 0, 0, 10]
    a, b, c, y = 0, 1, 2, 6
    history = DryHistory(dry(dry_allowed_length=1), tokens)
    assert history.repetitions() == {c: 3, b: 1, y: 2}
    assert a not in history.repetitions()


def counted(tokens: list[int], least: int, size: int, breakers: Breakers) -> dict[int, int]:
    """Return the same as DryHistory.repetitions, by comparing every place with the end, token by token."""
    latest = tokens if size < 0 else tokens[-size:] if size else []
    limit = len(latest)
    for distance, token in enumerate(reversed(latest)):
        after = latest[len(latest) - distance :]
        tails = [len(tail) for tail in breakers.get(token, ()) if tuple(after[: len(tail)]) == tail]
        if tails:
            limit = distance - max(tails)
            break
    longest: dict[int, int] = {}
    if limit < least or len(latest) <= least:
        return longest
    for end in range(1, len(latest)):
        length = 0
        while length < min(end, limit) and latest[end - 1 - length] == latest[-1 - length]:
            length += 1
        if length >= least and () not in breakers.get(latest[end], ()):
            longest[latest[end]] = max(longest.get(latest[end], 0), length)
    return longest


@given(
    tokens=TOKENS,
    start=st.integers(0, 40),
    least=st.integers(0, 3),
    size=st.integers(-1, 12),
    breakers=BREAKERS,
)
def test_repetitions_are_those_that_plain_counting_finds(tokens, start, least, size, breakers):
    params = dry(dry_allowed_length=least, dry_penalty_last_n=size, dry_breakers=breakers)
    history = DryHistory(params, tokens[:start])
    for count in range(start, len(tokens) + 1):
        assert history.repetitions() == counted(tokens[:count], least, size, breakers)
        if count < len(tokens):
            history.accept(tokens[count])


@pytest.mark.parametrize("seed", range(40))
def test_a_breaker_stays_where_it_was_while_tokens_come(seed):
    rng = random.Random(seed)
    breakers = {5: ((),), 6: ((1,), (1, 2))}
    size, least = rng.choice([-1, 6, 15]), rng.choice([0, 1, 2])
    params = dry(dry_allowed_length=least, dry_penalty_last_n=size, dry_breakers=breakers)
    tokens = [
        5 if rng.random() < 0.04 else 6 if rng.random() < 0.06 else rng.choice([1, 2]) for _ in range(60)
    ]
    start = rng.randrange(60)
    history = DryHistory(params, tokens[:start])
    for count in range(start, 61):
        assert history.repetitions() == counted(tokens[:count], least, size, breakers)
        history.accept(tokens[count % 60])


@given(tokens=TOKENS)
def test_match_lengths_are_those_that_plain_counting_finds(tokens):
    for place, length in enumerate(match_lengths(tokens).tolist()):
        some, end = tokens[: place + 1][::-1], tokens[::-1]
        expected = next((i for i, (x, y) in enumerate(zip(some, end, strict=False)) if x != y), len(some))
        assert length == expected


def test_a_breaker_that_has_left_the_window_is_forgotten():
    params = dry(dry_penalty_last_n=6, dry_breakers={6: ((1, 1),)})
    history = DryHistory(params, [6, 1, 1, 1, 1, 1])
    assert history.repetitions() == {1: 3}
    history.accept(1)
    assert history.repetitions() == {1: 5}


def test_the_penalty_grows_with_the_repetition_and_never_overflows():
    params = dry(dry_base=1.75, dry_multiplier=0.8)
    start = Candidates(np.zeros(3, dtype=np.float32))
    for length in (2, 3, 7):
        history = DryHistory(params, [0] * (length + 1) + [1] + [0] * length)
        lowered = penalize_repetitions(start, history, params).logits.tolist()
        assert lowered == pytest.approx([-0.8 * 1.75 ** (length - 2)] * 2 + [0])
    long = penalize_repetitions(start, DryHistory(params, [0] * 5000), params).logits
    assert np.isfinite(long).all()
    assert long[0] < -1e37


def test_after_another_filter_only_what_is_left_is_penalised():
    params = dry()
    some = Candidates(np.array([4.0, 2.0]), np.array([7, 3]), is_sorted=True)
    found = penalize_repetitions(some, DryHistory(params, [1, 2, 3, 9, 1, 2]), params)
    assert found.logits.tolist() == [4.0, 1.0]
    assert penalize_repetitions(some, DryHistory(params, [1, 2, 8, 9, 1, 2]), params) is some


def test_tokens_that_hold_or_begin_a_breaker():
    vocabulary = Words("a", "\n", "x\n\n", "end", "<", "a<e", "nd>", "<end>", "")
    assert breakers_of(vocabulary, ["\n", "<end>"]) == {
        1: ((),),
        2: ((),),
        4: (tuple(map(ord, "end>")),),
        5: (tuple(map(ord, "nd>")),),
        7: ((),),
    }
    # A text may begin twice at a token's end.
    assert breakers_of(Words("aa"), ["aab"]) == {0: (tuple(map(ord, "ab")), tuple(map(ord, "b")))}
    # What is cut within a character cannot be continued.
    assert breakers_of(Words("ü"), ["ünü"]) == {0: (tuple(map(ord, "nü")),)}
    assert breakers_of(Words("a"), []) == {}


def test_breakers_are_looked_up_where_dry_is_on():
    vocabulary = Words("a", ":", "b")
    index = BreakerIndex(vocabulary)
    assert index.fill(SamplingParams()).dry_breakers == {}
    assert index.fill(dry()).dry_breakers == {1: ((),)}
    assert index.fill(dry()).dry_breakers is index.fill(dry()).dry_breakers
    assert index.fill(dry(dry_sequence_breakers=("b",))).dry_breakers == {2: ((),)}
    assert index.fill(dry(dry_sequence_breakers=())).dry_breakers == {}
    assert index.fill(dry(dry_penalty_last_n=0)).dry_breakers == {}
