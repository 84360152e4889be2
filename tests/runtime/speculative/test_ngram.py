"""Tests of prompt lookup against a search through the whole text."""

from __future__ import annotations

import random

import pytest
from mull.runtime.speculative.ngram import Match, NgramIndex


def find(index: NgramIndex, tokens: list[int]) -> Match | None:
    """Return the longest match, or else the latest of a short one."""
    return index.find_long(tokens) or index.find_short(tokens)


def longest(tokens: list[int], longest: int = 24) -> int:
    """Return how many of the last tokens, at most, also stand somewhere before the end."""
    best = 0
    for end in range(1, len(tokens)):
        length = 0
        while length < min(end, longest) and tokens[end - 1 - length] == tokens[-1 - length]:
            length += 1
        best = max(best, length)
    return best


@pytest.mark.parametrize("vocabulary", [2, 4, 12])
@pytest.mark.parametrize("seed", range(6))
def test_every_match_is_one_and_only_long_runs_of_candidates_hide_a_longer(vocabulary, seed):
    rng = random.Random(seed)
    tokens = [rng.randrange(vocabulary)]
    index = NgramIndex()
    for _ in range(150):
        # Text that repeats itself now and then.
        if len(tokens) > 20 and rng.random() < 0.1:
            start = rng.randrange(len(tokens) - 9)
            tokens += tokens[start : start + 9]
        tokens.append(rng.randrange(vocabulary))
        index.extend(tokens, len(tokens))
        match = find(index, tokens)
        best = longest(tokens)
        if match is None:
            assert best == 0
            continue
        assert 0 < match.end < len(tokens)
        assert tokens[match.end - match.length : match.end] == tokens[len(tokens) - match.length :]
        assert (match.length >= 3) == (best >= 3)
        if vocabulary == 12:
            assert match.length == best


def test_guesses_are_what_followed():
    tokens = [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4]
    index = NgramIndex()
    index.extend(tokens, len(tokens))
    match = find(index, tokens)
    assert match == Match(4, 4)
    assert index.guess(tokens, match, 3) == [5, 6, 7]


def test_a_match_that_runs_into_the_end_goes_round():
    tokens = [9, 1, 2, 3, 1, 2, 3]
    index = NgramIndex()
    index.extend(tokens, len(tokens))
    match = find(index, tokens)
    assert match is not None
    assert index.guess(tokens, match, 8) == [1, 2, 3, 1, 2, 3, 1, 2]
    loop = [5, 5]
    index = NgramIndex()
    index.extend(loop, 2)
    assert index.guess(loop, find(index, loop), 4) == [5, 5, 5, 5]


def test_text_is_found_again_after_a_changed_token():
    source = [10, 11, 12, 13, 14, 7, 15, 16]
    # 13 came out as 99; 14 alone would be found where it came last.
    tokens = [*source, 14, 3, 10, 11, 12, 99, 14]
    index = NgramIndex()
    index.extend(tokens, len(tokens) - 2)
    assert find(index, tokens) == Match(9, 1)
    match = index.find_near(tokens, 3, len(tokens) - 2)
    assert match == Match(5, 1, is_near=True)
    assert index.guess(tokens, match, 2) == [7, 15]
    assert [match.kind(further) for further in (0, 1, 2, 3)] == [2, 2, 3, 4]
    assert index.find_near(tokens, 3, len(tokens) - 40) is None


def test_what_may_be_taken_back_is_not_found():
    index = NgramIndex()
    index.extend([1, 2, 3, 1], 2)
    assert find(index, [1, 2, 3, 1]) == Match(1, 1)
    index = NgramIndex()
    index.extend([4, 5], 1)
    assert find(index, [4, 5, 5]) is None


def test_nothing_is_found_for_a_new_token_or_in_a_short_text():
    index = NgramIndex()
    for tokens in ([1], [1, 2], [1, 2, 3]):
        index.extend(tokens, len(tokens))
        assert find(index, tokens) is None
