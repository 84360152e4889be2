"""Tests of following a text that a sequence repeats with changes."""

from __future__ import annotations

import random
from collections.abc import Sequence as Row

import fakes
from mull.runtime.controls import StopText
from mull.runtime.request import Request
from mull.runtime.sequence import Sequence
from mull.runtime.speculative.lookup import Lookup


def hits(prompt: Row[int], reply: Row[int], count: int = 4) -> list[bool]:
    """Return for each token of a reply that comes one by one whether it was guessed."""
    sequence = Sequence(Request(tuple(prompt)), StopText(fakes.Letters(), ()))
    lookup = Lookup()
    found = []
    for token in reply:
        chances = lookup.guess(sequence, count)
        assert len(chances) <= count
        assert all(0 <= low <= high <= 1 for high, low in zip([1.0, *chances], chances, strict=False))
        found.append(lookup.guesses.tokens[:1] == [token])
        sequence.tokens.append(token)
        sequence.num_told = len(sequence.tokens)
    return found


def text(seed: int, count: int) -> list[int]:
    """Return tokens that are all different."""
    return random.Random(seed).sample(range(1000), count)


def test_a_copy_is_guessed_from_its_second_token_on():
    source = text(0, 60)
    assert hits([*source, 2000], source) == [False] + [True] * 59


def test_a_changed_token_costs_two():
    source = text(1, 60)
    reply = [*source[:30], 3000, *source[31:]]
    assert [at for at, hit in enumerate(hits([*source, 2000], reply)) if not hit] == [0, 30, 31]


def test_an_insertion_and_a_deletion_cost_little():
    source = text(2, 60)
    reply = [*source[:20], 3000, 3001, *source[20:40], *source[44:]]
    missed = [at for at, hit in enumerate(hits([*source, 2000], reply)) if not hit]
    assert missed[:4] == [0, 20, 21, 22]
    assert len(missed) <= 6


def test_what_a_token_became_is_guessed_the_next_time():
    source = text(3, 80)
    name = 4000
    for at in (10, 25, 40, 55, 70):
        source[at] = name
    reply = [5000 if token == name else token for token in source]
    missed = [at for at, hit in enumerate(hits([*source, 2000], reply)) if not hit]
    # The first time it is new, and so is the token after it, which is looked for nearby.
    assert missed == [0, 10, 11]


def test_a_change_that_was_made_only_once_is_given_up():
    source = text(4, 80)
    for at in (10, 25, 40):
        source[at] = 4000
    reply = [*source[:10], 5000, *source[11:]]
    missed = [at for at, hit in enumerate(hits([*source, 2000], reply)) if not hit]
    assert missed[:3] == [0, 10, 11]
    assert missed[3] == 25
    assert 40 not in missed


def test_tokens_that_are_taken_back_leave_no_trace():
    sequence = Sequence(Request((1, 2, 3, 4, 5, 1, 2)), StopText(fakes.Letters(), ()))
    lookup = Lookup()
    lookup.guess(sequence, 4)
    assert lookup.guesses.tokens[:3] == [3, 4, 5]
    sequence.tokens += [3, 9]
    lookup.guess(sequence, 4)
    del sequence.tokens[-3:]
    sequence.tokens += [2]
    lookup.guess(sequence, 4)
    assert lookup.guesses.tokens[:3] == [3, 4, 5]
