"""Tests of how one candidate is taken: by probability, by mirostat 1 and 2, by adaptive-p."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mull.runtime.sampling.candidates import Candidates, highest, softmax
from mull.runtime.sampling.choice import (
    AdaptiveP,
    Dist,
    Mirostat,
    choice_for,
    cut_by_slope,
    cut_by_surprise,
    inverse_cdf,
    prefer_near,
)
from mull.runtime.sampling.params import SamplingParams
from rows import RISING, candidates, ids, random_row

LAST = 1 - 2**-53


@pytest.fixture(autouse=True)
def _quiet():
    """Compute as Chain.draw does: minus infinity is an ordinary number."""
    with np.errstate(all="ignore"):
        yield


def test_the_inverse_of_the_cumulative_distribution():
    logits = candidates([0.5, 0.25, 0.25]).logits
    assert [inverse_cdf(logits, u) for u in (0.0, 0.49, 0.51, 0.74, 0.76, LAST)] == [0, 0, 1, 1, 2, 2]
    impossible = np.array([-np.inf, 0.0, -np.inf])
    assert {inverse_cdf(impossible, u) for u in (0.0, 0.5, LAST)} == {1}


@given(st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=20), st.floats(0, LAST))
def test_the_inverse_is_that_of_an_exact_sum(logits, uniform):
    weights = [math.exp(logit - max(logits)) for logit in logits]
    place = inverse_cdf(np.array(logits), uniform)
    target = uniform * math.fsum(weights)
    assert math.fsum(weights[:place]) <= target + 1e-9
    assert math.fsum(weights[: place + 1]) >= target - 1e-9


@pytest.mark.parametrize("size", [512, 513, 20_000])
def test_the_inverse_over_a_vocabulary(size):
    logits = random_row(size, 7)
    logits[::2] = -np.inf
    held = np.exp(logits.astype(np.float64) - logits.max()).cumsum()
    uniforms = [0.0, *np.random.default_rng(1).random(300).tolist(), LAST]
    expected = [int(held.searchsorted(u * held[-1], side="right")) for u in uniforms]
    assert [inverse_cdf(logits, u) for u in uniforms] == expected


def test_no_banned_token_of_a_vocabulary_wins_by_rounding():
    rng = np.random.default_rng(3)
    for _ in range(50):
        logits = np.where(rng.random(2000) < 0.02, rng.standard_normal(2000), -np.inf).astype(np.float32)
        weights = np.exp(logits.astype(np.float64) - logits.max())
        sums = np.add.reduceat(weights, np.arange(0, 2000, 512)).cumsum() / weights.sum()
        for edge in [*sums.tolist(), LAST]:
            for uniform in (edge, np.nextafter(edge, 0), np.nextafter(edge, 1)):
                if 0 <= uniform < 1:
                    assert logits[inverse_cdf(logits, float(uniform))] > -np.inf


@pytest.mark.parametrize("mu", [0.5, 3.0, 6.0, 10.0, 100.0])
@pytest.mark.parametrize("size", [50, 4000])
def test_mirostat_1_keeps_as_many_as_its_formula_says(mu, size):
    logits = random_row(size, 3, 2.0)
    top = sorted(logits.tolist(), reverse=True)[:100]
    steps = [math.log((i + 2) / (i + 1)) for i in range(len(top) - 1)]
    falls = [top[i] - top[i + 1] for i in range(len(top) - 1)]
    s = sum(t * b for t, b in zip(steps, falls, strict=True)) / sum(t * t for t in steps)
    e = s - 1
    k = (e * 2**mu / (1 - size**-e)) ** (1 / s)
    found = cut_by_slope(Candidates(logits), mu)
    assert len(found.logits) == min(max(int(k), 1), size)
    assert sorted(ids(found)) == sorted(ids(highest(Candidates(logits), len(found.logits))))


def test_mirostat_1_bears_even_and_certain_rows():
    even = Candidates(np.zeros(1000, dtype=np.float32))
    assert len(cut_by_slope(even, 1.0).logits) == 1  # 2^1 / 999 to a power that has no bound
    assert len(cut_by_slope(even, 20.0).logits) == 1000
    certain = np.full(1000, -np.inf, dtype=np.float32)
    certain[7] = 1.0
    assert ids(cut_by_slope(Candidates(certain), 10.0)) == [7]
    assert len(cut_by_slope(Candidates(random_row(100, 1)), 5000.0).logits) == 100
    # A slope of exactly 1, where the formula is 0 / 0: its limit is 2^mu / ln n.
    zipf = Candidates(-np.log(np.arange(1.0, 1001)))
    assert len(cut_by_slope(zipf, 6.0).logits) == int(2**6 / math.log(1000))
    exactly = Candidates(np.array([0.0, -np.log(2.0)]))
    assert [len(cut_by_slope(exactly, mu).logits) for mu in (0.4, 0.6)] == [1, 2]


@pytest.mark.parametrize("mu", [0.1, 1.2, 2.0, 3.0, 3.4])
def test_mirostat_2_keeps_what_is_not_too_surprising(mu):
    found = cut_by_surprise(candidates(RISING), mu)
    assert ids(found) == ([i for i, share in enumerate(RISING) if -math.log2(share) <= mu] or [3])


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_learns_from_what_it_took_and_nothing_else(version):
    params = SamplingParams(mirostat=version, mirostat_tau=4.0, mirostat_eta=0.2)
    rule = Mirostat(params)
    assert rule.mu == 8.0
    row = Candidates(random_row(500, 5))
    cut = cut_by_slope if version == 1 else cut_by_surprise
    left = cut(row, 8.0)
    token = rule.take(row, 0.9)
    share = dict(zip(ids(left), softmax(left).tolist(), strict=True))[token]
    assert rule.mu == 8.0
    rule.accept(token)
    assert rule.mu == pytest.approx(8.0 - 0.2 * (-math.log2(share) - 4.0), abs=1e-5)
    before = rule.mu
    rule.accept(token)  # put in by force
    rule.take(row, 0.5)
    rule.accept(token + 1)  # something else came
    assert rule.mu == before


def test_mirostat_holds_the_surprise_near_tau():
    rng = np.random.default_rng(1)
    rule = Mirostat(SamplingParams(mirostat=2, mirostat_tau=3.0))
    row = Candidates(random_row(5000, 2, 1.5))
    surprises = []
    for _ in range(600):
        left = cut_by_surprise(row, rule.mu)
        token = rule.take(row, rng.random())
        surprises.append(-math.log2(dict(zip(ids(left), softmax(left).tolist(), strict=True))[token]))
        rule.accept(token)
    assert sum(surprises[100:]) / 500 == pytest.approx(3.0, abs=0.3)


def test_adaptive_p_prefers_probabilities_near_its_aim():
    logits = candidates([0.5, 0.3, 0.15, 0.05]).logits
    shaped = prefer_near(logits, np.array([0.5, 0.3, 0.15, 0.05]), 0.3)
    expected = [5 - 10 * d * d / (1 + d) for d in (abs(p - 0.3) / 0.3 for p in (0.5, 0.3, 0.15, 0.05))]
    assert shaped.tolist() == pytest.approx(expected)
    banned = prefer_near(np.array([-np.inf, 0.0]), np.array([0.0, 1.0]), 0.0)
    assert banned[0] == -np.inf


def test_adaptive_p_aims_to_the_other_side_of_what_it_took():
    rule = AdaptiveP(SamplingParams(adaptive_target=0.4, adaptive_decay=0.8))
    assert rule.aim == pytest.approx(0.4)
    row = candidates([0.7, 0.3])
    token = rule.take(row, 0.0)
    assert (token, rule.aim) == (0, pytest.approx(0.4))
    rule.accept(0)
    # The average so far, 0.4 with a weight of 5, gives way to 0.7 with a weight of 1.
    average = (0.7 + 0.8 * 0.4 * 5) / (1 + 0.8 * 5)
    assert rule.aim == pytest.approx(2 * 0.4 - average)
    before = rule.aim
    rule.accept(0)
    rule.take(row, 0.0)
    rule.accept(1)
    assert rule.aim == before


def test_the_choice_that_is_asked_for():
    assert isinstance(choice_for(SamplingParams()), Dist)
    assert isinstance(choice_for(SamplingParams(mirostat=1, adaptive_target=0.5)), Mirostat)
    assert isinstance(choice_for(SamplingParams(adaptive_target=0.0)), AdaptiveP)
    assert isinstance(choice_for(SamplingParams(adaptive_target=0.5, samplers=("top_k",))), Dist)
