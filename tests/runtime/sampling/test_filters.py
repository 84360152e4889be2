"""Tests of the filters: llama.cpp's published cases, their formulas, ties, bans, and what must always hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mull.runtime.sampling import filters
from mull.runtime.sampling.candidates import Candidates, highest, softmax
from rows import RISING, by_id, candidates, ids, probs, random_row

SHARES = st.lists(st.floats(0.0078125, 1, width=32), min_size=1, max_size=40)


@pytest.fixture(autouse=True)
def _quiet():
    """Compute as Chain.draw does: minus infinity is an ordinary number."""
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize(("k", "expected"), [(1, [1.0]), (3, [0.44444, 0.33333, 0.22222]), (4, RISING[::-1])])
def test_top_k_as_published(k, expected):
    assert probs(filters.top_k(candidates(RISING), k)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("is_sorted", [False, True])
@pytest.mark.parametrize(
    ("p", "expected"), [(0.0, [1.0]), (0.7, [0.571429, 0.428571]), (0.8, [0.44444, 0.33333, 0.22222])]
)
def test_top_p_as_published(p, expected, is_sorted):
    start = highest(candidates(RISING), 4) if is_sorted else candidates(RISING)
    assert probs(filters.top_p(start, p)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("p", "left"), [(0.24, 4), (0.26, 3), (0.49, 3), (0.51, 2), (0.74, 2), (0.76, 1), (1.0, 1)]
)
@pytest.mark.parametrize("is_sorted", [False, True])
def test_min_p_as_published(p, left, is_sorted):
    start = highest(candidates(RISING), 4) if is_sorted else candidates(RISING)
    kept = RISING[::-1][:left]
    assert probs(filters.min_p(start, p)) == pytest.approx([share / sum(kept) for share in kept], abs=1e-5)


@pytest.mark.parametrize(
    ("threshold", "left"), [(0.09, [0.1]), (0.19, [0.2, 0.1]), (0.29, [0.3, 0.2, 0.1]), (0.39, RISING[::-1])]
)
@pytest.mark.parametrize("is_sorted", [False, True])
def test_xtc_as_published(threshold, left, is_sorted):
    start = highest(candidates(RISING), 4) if is_sorted else candidates(RISING)
    found = filters.xtc(start, threshold)
    assert probs(found) == pytest.approx([share / sum(left) for share in left], abs=1e-5)


def test_xtc_keeps_the_last_of_equals_and_what_it_may_not_drop():
    four = candidates([0.25, 0.25, 0.25, 0.25])
    assert ids(filters.xtc(four, 0.2)) == [3]
    assert ids(filters.xtc(highest(four, 4), 0.2)) == [3]
    assert ids(filters.xtc(candidates([0.3, 0.3, 0.1, 0.3]), 0.2)) == [2, 3]
    assert ids(filters.xtc(candidates([0.3, 0.3, 0.1, 0.3]), 0.2, min_keep=2)) == [2, 3]
    assert ids(filters.xtc(candidates([0.3, 0.3, 0.1, 0.3]), 0.2, min_keep=3)) == [0, 1, 2, 3]


def test_typical_p_as_published():
    assert ids(filters.typical_p(candidates([0.97, 0.01, 0.01, 0.01]), 0.5)) == [0]
    assert ids(filters.typical_p(candidates([0.4, 0.2, 0.2, 0.2]), 0.5)) == [1, 2, 3]


def test_typical_p_keeps_until_more_than_p_is_held():
    assert len(filters.typical_p(candidates([0.5, 0.5]), 0.5).logits) == 2
    assert len(filters.typical_p(candidates([0.5, 0.5]), 0.49).logits) == 1


def test_typical_p_is_not_misled_by_banned_tokens():
    assert ids(filters.typical_p(candidates([0.4, 0.0, 0.2, 0.2, 0.2, 0.0]), 0.5)) == [2, 3, 4]


@pytest.mark.parametrize(
    ("n", "expected"), [(1.0, [0.571429, 0.428571, 0, 0]), (3.0, RISING[::-1]), (0.001, [1.0, 0, 0, 0])]
)
@pytest.mark.parametrize("is_sorted", [False, True])
def test_top_n_sigma_as_published(n, expected, is_sorted):
    start = highest(candidates(RISING), 4) if is_sorted else candidates(RISING)
    assert probs(filters.top_n_sigma(start, n)) == pytest.approx(expected, abs=1e-5)


def test_top_n_sigma_does_not_measure_banned_tokens():
    logits = random_row(500, 1)
    banned = np.concatenate([logits, np.full(300, -np.inf, dtype=np.float32)])
    assert by_id(filters.top_n_sigma(Candidates(banned), 1.5)) == pytest.approx(
        by_id(filters.top_n_sigma(Candidates(logits), 1.5))
    )


@pytest.mark.parametrize("n", [0.5, 1.0, 2.5])
def test_top_n_sigma_is_its_formula(n):
    logits = random_row(3000, 4)
    mean = math.fsum(logits.tolist()) / 3000
    sigma = math.sqrt(math.fsum((x - mean) ** 2 for x in logits.tolist()) / 3000)
    expected = [token for token, logit in enumerate(logits.tolist()) if logit >= logits.max() - n * sigma]
    assert list(by_id(filters.top_n_sigma(Candidates(logits), n))) == expected


def test_temperature_as_published():
    assert probs(filters.temperature(candidates(RISING), 1.0)) == pytest.approx(RISING[::-1], abs=1e-5)
    assert probs(filters.dynamic_temperature(candidates(RISING), 1.0, 0.0, 1.0)) == pytest.approx(
        RISING[::-1], abs=1e-5
    )
    assert probs(filters.dynamic_temperature(candidates(RISING), 0.0, 0.0, 1.0)) == [1.0, 0.0, 0.0, 0.0]


def test_no_temperature_is_too_cold():
    for degree in (0.0, 1e-30, 1e-46, 1e-300, 5e-324):
        assert probs(filters.temperature(candidates(RISING), degree))[0] == 1
        assert probs(filters.temperature(Candidates(np.array([50.0, 49.0], dtype=np.float32)), degree)) == [
            1,
            0,
        ]


def test_an_ordinary_temperature_only_divides():
    """A penalty that follows tells positive logits from negative ones."""
    start = Candidates(np.array([3.0, -1.0, 0.5], dtype=np.float32))
    assert filters.temperature(start, 0.5).logits.tolist() == [6.0, -2.0, 1.0]


@pytest.mark.parametrize(("degree", "span", "exponent"), [(1.0, 0.5, 1.0), (0.8, 0.3, 2.0), (0.5, 0.9, 0.7)])
def test_dynamic_temperature_is_its_formula(degree, span, exponent):
    entropy = -sum(p * math.log(p) for p in RISING) / math.log(4)
    low, high = max(0.0, degree - span), degree + span
    heat = low + (high - low) * entropy**exponent
    powers = [p ** (1 / heat) for p in RISING]
    found = filters.dynamic_temperature(candidates(RISING), degree, span, exponent)
    assert softmax(found).tolist() == pytest.approx([power / sum(powers) for power in powers], abs=1e-5)


def test_dynamic_temperature_of_a_certain_token_is_the_coldest():
    certain = filters.dynamic_temperature(Candidates(np.array([0.0, -200.0])), 1.0, 0.9, 1.0)
    assert certain.logits.tolist() == pytest.approx([0, -200 / 0.1])
    one = Candidates(np.array([3.0]))
    assert filters.dynamic_temperature(one, 1.0, 0.5, 1.0) is one


def integers(count: int) -> Candidates:
    """Return the candidates of llama.cpp's queue test: token i with a weight of i."""
    with np.errstate(divide="ignore"):
        return Candidates(np.log(np.arange(count)).astype(np.float32))


@pytest.mark.parametrize("is_sorted", [False, True])
@pytest.mark.parametrize("p", [0.0003, 0.1, 0.8, 0.99])
def test_top_p_of_ten_thousand_integers(p, is_sorted):
    """The sum of the m highest of 0 … n - 1 is known exactly."""
    n = 10_000
    start = highest(integers(n), n) if is_sorted else integers(n)
    wanted = p * n * (n - 1) / 2
    count = next(m for m in range(1, n + 1) if m * (2 * n - 1 - m) / 2 >= wanted)
    found = highest(filters.top_p(start, p), n)
    assert abs(len(found.logits) - count) <= 1  # sums of ten thousand float32 logarithms
    assert ids(found) == list(range(n - 1, n - 1 - len(found.logits), -1))


@pytest.mark.parametrize("p", [0.1, 0.5, 9997.9 / 9999.0])
def test_min_p_of_ten_thousand_integers(p):
    expected = [token for token in range(10_000) if token >= p * 9999]
    assert ids(filters.min_p(integers(10_000), p)) == expected


@pytest.mark.parametrize("p", [0.05, 0.5, 0.95, 0.9999])
@pytest.mark.parametrize("flatness", [0.1, 3.0])
@pytest.mark.parametrize("name", ["top_p", "typical_p"])
def test_a_share_of_a_vocabulary_equals_the_sorted_definition(name, p, flatness):
    logits = random_row(5000, 1, flatness)
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum()
    surprise = -np.log(shares)
    score = logits if name == "top_p" else -np.abs(surprise - (shares * surprise).sum())
    order = np.argsort(-score, kind="stable")
    held = shares[order].cumsum()
    count = int((held < p).sum() if name == "top_p" else (held <= p).sum()) + 1
    found = getattr(filters, name)(Candidates(logits), p)
    # Where two scores or sums differ by less than float32 tells, one token more or less is right, too.
    assert abs(len(found.logits) - min(count, 5000)) <= 1
    assert set(ids(found)) ^ set(order[: len(found.logits)].tolist()) <= set(
        order[count - 2 : count + 1].tolist()
    )


def test_top_p_of_everything_but_rounding_keeps_everything():
    assert len(filters.top_p(Candidates(np.zeros(300, dtype=np.float32)), 1 - 1e-12).logits) == 300


@pytest.mark.parametrize("size", [200, 3000])
def test_banned_tokens_do_not_disturb_a_filter(size):
    logits = np.full(size, -np.inf, dtype=np.float32)
    logits[[3, 150]] = [1.0, 2.0]
    steps = {
        "top_k": lambda c: filters.top_k(c, 40),
        "top_n_sigma": lambda c: filters.top_n_sigma(c, 3.0),
        "typical_p": lambda c: filters.typical_p(c, 0.99),
        "top_p": lambda c: filters.top_p(c, 0.99),
        "min_p": lambda c: filters.min_p(c, 0.01),
        "xtc": lambda c: filters.xtc(c, 0.4),
        "temperature": lambda c: filters.temperature(c, 0.5),
        "dynamic_temperature": lambda c: filters.dynamic_temperature(c, 0.5, 0.4, 1.0),
    }
    for name, step in steps.items():
        assert sorted(by_id(step(Candidates(logits)))) == [3, 150], name


@pytest.mark.parametrize(("name", "argument"), [("top_p", 0.0), ("min_p", 1.0), ("typical_p", 0.01)])
@pytest.mark.parametrize("size", [40, 4000])
@pytest.mark.parametrize("is_sorted", [False, True])
def test_min_keep_is_kept(name, argument, size, is_sorted):
    row = Candidates(random_row(size, 2))
    start = highest(row, size) if is_sorted else row
    step = getattr(filters, name)
    assert len(step(start, argument).logits) < 7
    seven = step(start, argument, 7)
    assert len(seven.logits) == 7
    assert len(step(start, argument, 2 * size).logits) == size
    if name != "typical_p":
        assert ids(seven) == ids(highest(row, 7))


@given(shares=SHARES, p=st.floats(0.01, 0.99), min_keep=st.integers(0, 5))
def test_filters_keep_the_likeliest_and_change_no_logit(shares, p, min_keep):
    start = candidates(shares)
    best = int(start.logits.argmax())
    for step in (filters.top_p, filters.min_p):
        found = step(start, p, min_keep)
        assert len(found.logits) >= min(max(1, min_keep), len(shares))
        assert best in ids(found)
        assert found.logits.tolist() == start.logits[ids(found)].tolist()
        # Whatever is left is at least as likely as whatever is not.
        assert found.logits.min() >= np.delete(start.logits, ids(found)).max(initial=-np.inf)


@given(shares=SHARES, p=st.floats(0.01, 0.99))
def test_top_p_holds_p_with_as_few_as_possible(shares, p):
    found = filters.top_p(candidates(shares), p)
    held = sorted((share / math.fsum(shares) for share in shares), reverse=True)
    count = len(found.logits)
    assert math.fsum(held[:count]) >= p - 1e-5
    assert math.fsum(held[: count - 1]) <= p + 1e-5


@given(shares=SHARES, threshold=st.floats(0.01, 0.5))
def test_xtc_leaves_one_of_the_likely_and_all_others(shares, threshold):
    start = candidates(shares)
    found = filters.xtc(start, threshold)
    likely = set(np.flatnonzero(softmax(start) >= threshold).tolist())
    left = set(ids(found))
    assert len(left & likely) == min(len(likely), 1)
    assert left | likely == set(range(len(shares)))


@given(shares=SHARES, degree=st.floats(0.05, 5), span=st.floats(0, 3), exponent=st.floats(0, 4))
def test_temperatures_keep_the_order(shares, degree, span, exponent):
    start = candidates(shares)
    for found in (
        filters.temperature(start, degree),
        filters.dynamic_temperature(start, degree, span, exponent),
    ):
        order = np.argsort(start.logits, kind="stable")
        assert (np.diff(found.logits[order]) >= 0).all()
