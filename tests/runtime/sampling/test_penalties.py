"""Tests of the penalties on tokens that came lately: llama.cpp's published cases, windows, signs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mull.runtime.sampling.candidates import Candidates, softmax
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.sampling.penalties import Window, penalize
from rows import candidates, ids


@pytest.mark.parametrize(
    ("history", "repeat", "frequency", "presence", "expected"),
    [
        ([0], 50.0, 0.0, 0.0, [0, 0.25, 0.25, 0.25, 0.25]),
        ([0, 1, 2], 50.0, 0.0, 0.0, [0, 0, 0, 0.5, 0.5]),
        ([0, 1, 2, 0, 0], 50.0, 0.0, 0.0, [0, 0, 0, 0.5, 0.5]),
        ([0], 1.0, 5.0, 5.0, [0.000011, 0.249997, 0.249997, 0.249997, 0.249997]),
        ([0, 1, 2], 1.0, 5.0, 5.0, [0.000023, 0.000023, 0.000023, 0.499966, 0.499966]),
        ([0, 1, 2, 0, 0], 1.0, 5.0, 5.0, [0.0, 0.000023, 0.000023, 0.499977, 0.499977]),
    ],
)
def test_penalties_as_published(history, repeat, frequency, presence, expected):
    params = SamplingParams(repeat_penalty=repeat, frequency_penalty=frequency, presence_penalty=presence)
    found = penalize(candidates([0.2] * 5), Window(len(history), history), params)
    assert softmax(found).tolist() == pytest.approx(expected, abs=1e-5)


def test_the_repeat_penalty_lowers_positive_and_negative_logits():
    start = Candidates(np.array([4.0, -4.0, 0.0, 1.0], dtype=np.float32))
    found = penalize(start, Window(-1, [0, 1, 2]), SamplingParams(repeat_penalty=2.0))
    assert found.logits.tolist() == [2.0, -8.0, 0.0, 1.0]
    assert start.logits.tolist() == [4.0, -4.0, 0.0, 1.0]


def test_after_another_filter_only_what_is_left_is_penalised():
    some = Candidates(np.array([4.0, 2.0]), np.array([7, 3]), is_sorted=True)
    found = penalize(some, Window(-1, [7, 5, 7, 1000]), SamplingParams(frequency_penalty=1.5))
    assert (ids(found), found.logits.tolist(), found.is_sorted) == ([7, 3], [1.0, 2.0], False)
    assert penalize(some, Window(-1, [5]), SamplingParams(frequency_penalty=1.5)) is some


@given(history=st.lists(st.integers(0, 9), max_size=60), size=st.integers(-1, 20))
def test_a_window_counts_the_latest_tokens(history, size):
    window = Window(size, history[:5])
    for token in history[5:]:
        window.accept(token)
    latest = history if size < 0 else history[-size:] if size else []
    tokens, counts = window.counts()
    assert dict(zip(tokens.tolist(), counts.tolist(), strict=True)) == {
        t: latest.count(t) for t in set(latest)
    }
