"""Tests of the filters: llama.cpp's published cases, ties, and what a row of 150,000 logits must give."""

from __future__ import annotations

import math

import pytest
import torch
from mull.runtime.sampling.filters import (
    DEFAULT_ORDER,
    Candidates,
    add_bias,
    apply_filters,
    highest,
    min_p,
    penalize,
    temperature,
    top_k,
    top_p,
    typical_p,
)
from mull.runtime.sampling.params import SamplingParams

RISING = [0.1, 0.2, 0.3, 0.4]


def candidates(probs: list[float]) -> Candidates:
    return Candidates(torch.tensor(probs).log())


def probs(found: Candidates) -> list[float]:
    """Return the probabilities of what is left, highest first."""
    return sorted(found.logits.softmax(-1).tolist(), reverse=True)


@pytest.mark.parametrize(("k", "expected"), [(1, [1.0]), (3, [0.44444, 0.33333, 0.22222]), (4, RISING[::-1])])
def test_top_k_as_published(k, expected):
    assert probs(top_k(candidates(RISING), SamplingParams(top_k=k))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("p", "expected"), [(0.0, [1.0]), (0.7, [0.571429, 0.428571]), (0.8, [0.44444, 0.33333, 0.22222])]
)
def test_top_p_as_published(p, expected):
    assert probs(top_p(candidates(RISING), SamplingParams(top_p=p))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("p", "left"), [(0.24, 4), (0.26, 3), (0.49, 3), (0.51, 2), (0.74, 2), (0.76, 1), (1.0, 1)]
)
@pytest.mark.parametrize("is_sorted", [False, True])
def test_min_p_as_published(p, left, is_sorted):
    start = highest(candidates(RISING), 4) if is_sorted else candidates(RISING)
    kept = RISING[::-1][:left]
    expected = [value / sum(kept) for value in kept]
    assert probs(min_p(start, SamplingParams(min_p=p))) == pytest.approx(expected, abs=1e-5)


def test_typical_p_as_published():
    one = typical_p(candidates([0.97, 0.01, 0.01, 0.01]), SamplingParams(typical_p=0.5))
    assert one.ids is not None
    assert one.ids.tolist() == [0]
    three = typical_p(candidates([0.4, 0.2, 0.2, 0.2]), SamplingParams(typical_p=0.5))
    assert three.ids is not None
    assert three.ids.tolist() == [1, 2, 3]


def test_typical_p_keeps_until_more_than_p_is_held():
    assert typical_p(candidates([0.5, 0.5]), SamplingParams(typical_p=0.5)).logits.shape == (2,)
    assert typical_p(candidates([0.5, 0.5]), SamplingParams(typical_p=0.49)).logits.shape == (1,)


def test_typical_p_is_not_misled_by_banned_tokens():
    found = typical_p(candidates([0.4, 0.0, 0.2, 0.2, 0.2, 0.0]), SamplingParams(typical_p=0.5))
    assert found.ids is not None
    assert found.ids.tolist() == [2, 3, 4]


def test_temperature_as_published():
    left = temperature(candidates(RISING), SamplingParams(temperature=1.0))
    assert probs(left) == pytest.approx(RISING[::-1], abs=1e-5)
    cold = temperature(candidates(RISING), SamplingParams(temperature=1e-30))
    assert probs(cold) == [1.0, 0.0, 0.0, 0.0]


def test_no_temperature_is_too_cold():
    for degree in (1e-30, 1e-46, 1e-300, 5e-324):
        assert probs(temperature(candidates(RISING), SamplingParams(temperature=degree)))[0] == 1


@pytest.mark.parametrize(
    ("window", "repeat", "frequency", "presence", "expected"),
    [
        ({0: 1}, 50.0, 0.0, 0.0, [0, 0.25, 0.25, 0.25, 0.25]),
        ({0: 1, 1: 1, 2: 1}, 50.0, 0.0, 0.0, [0, 0, 0, 0.5, 0.5]),
        ({0: 3, 1: 1, 2: 1}, 50.0, 0.0, 0.0, [0, 0, 0, 0.5, 0.5]),
        ({0: 1}, 1.0, 5.0, 5.0, [0.000011, 0.249997, 0.249997, 0.249997, 0.249997]),
        ({0: 1, 1: 1, 2: 1}, 1.0, 5.0, 5.0, [0.000023, 0.000023, 0.000023, 0.499966, 0.499966]),
        ({0: 3, 1: 1, 2: 1}, 1.0, 5.0, 5.0, [0.0, 0.000023, 0.000023, 0.499977, 0.499977]),
    ],
)
def test_penalties_as_published(window, repeat, frequency, presence, expected):
    params = SamplingParams(
        repeat_penalty=repeat, frequency_penalty=frequency, presence_penalty=presence, repeat_last_n=-1
    )
    ids, counts = torch.tensor(list(window)), torch.tensor(list(window.values()), dtype=torch.float32)
    logits = penalize(torch.full((5,), 0.2).log(), ids, counts, params)
    assert logits.softmax(-1).tolist() == pytest.approx(expected, abs=1e-5)


def test_the_repeat_penalty_lowers_positive_and_negative_logits():
    params = SamplingParams(repeat_penalty=2.0)
    logits = penalize(torch.tensor([4.0, -4.0, 0.0, 1.0]), torch.tensor([0, 1, 2]), torch.ones(3), params)
    assert logits.tolist() == [2.0, -8.0, 0.0, 1.0]


def test_bias_is_added_and_minus_infinity_bans():
    logits = torch.tensor([1.0, 2.0, 3.0])
    biased = add_bias(logits, torch.tensor([0, 2]), torch.tensor([5.0, -math.inf]))
    assert biased.tolist() == [6.0, 2.0, -math.inf]


@pytest.mark.parametrize("size", [1, 5, 63, 64, 65, 1000, 4097])
def test_the_highest_are_the_sorted_head_with_lowest_ids_first(size):
    generator = torch.Generator().manual_seed(size)
    for spread in (2, 50, 10**6):
        logits = torch.randint(spread, (size,), generator=generator).float()
        expected = sorted(range(size), key=lambda i: (-logits[i], i))
        for count in (1, 3, 40, 70, size):
            found = highest(Candidates(logits), count)
            assert found.is_sorted
            assert found.ids is not None
            assert found.ids.tolist() == expected[:count]
            assert torch.equal(found.logits, logits[expected[:count]])


@pytest.mark.parametrize("p", [0.05, 0.5, 0.95, 0.9999])
@pytest.mark.parametrize("flatness", [0.1, 3.0])
def test_top_p_of_a_vocabulary_equals_the_sorted_definition(p, flatness):
    logits = torch.randn(5000, generator=torch.Generator().manual_seed(1)) * flatness
    values, order = logits.sort(descending=True, stable=True)
    held = values.double().softmax(-1).cumsum(-1)
    count = int((held < p).sum()) + 1
    found = top_p(Candidates(logits), SamplingParams(top_p=p))
    assert found.ids is not None
    assert found.ids.tolist() == order[:count].tolist()


def test_top_p_of_everything_but_rounding_keeps_everything():
    found = top_p(Candidates(torch.zeros(300)), SamplingParams(top_p=1 - 1e-12))
    assert found.logits.shape == (300,)


def test_banned_tokens_do_not_disturb_a_filter():
    logits = torch.full((200,), -math.inf)
    logits[[3, 150]] = torch.tensor([1.0, 2.0])
    for name in ("top_k", "typical_p", "top_p", "min_p", "temperature"):
        step = next(row for row in DEFAULT_ORDER if row.name == name)
        params = SamplingParams(top_k=40, typical_p=0.99, top_p=0.99, min_p=0.01, temperature=0.5)
        left = step.apply(Candidates(logits), params).logits.softmax(-1)
        assert int((left > 0).sum()) == 2, name


def test_neutral_filters_do_not_run():
    params = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0)
    start = Candidates(torch.zeros(4))
    assert all(row.is_neutral(params) for row in DEFAULT_ORDER)
    assert apply_filters(start, params) is start


def test_the_order_is_the_users_to_change():
    by_name = {row.name: row for row in DEFAULT_ORDER}
    params = SamplingParams(top_k=2, top_p=0.5, typical_p=1.0, min_p=0.0, temperature=1.0)
    start = candidates([0.3, 0.25, 0.25, 0.2])
    assert apply_filters(start, params, (by_name["top_k"], by_name["top_p"])).logits.shape == (1,)
    assert apply_filters(start, params, (by_name["top_p"], by_name["top_k"])).logits.shape == (2,)


def test_the_default_order_is_llama_cpps():
    assert [row.name for row in DEFAULT_ORDER] == ["top_k", "typical_p", "top_p", "min_p", "temperature"]
