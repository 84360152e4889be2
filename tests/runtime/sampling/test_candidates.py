"""Tests of candidates: the highest, ties, places of tokens, probabilities."""

from __future__ import annotations

import mull.kernels.cpu.native  # noqa: F401  # the kernel that is used beside a native model
import numpy as np
import pytest
import torch
from mull.runtime.sampling.candidates import (
    Candidates,
    highest,
    highest_on_device,
    log_total,
    on_host,
    only_highest,
    softmax,
)
from rows import ids, random_row


@pytest.mark.parametrize("size", [1, 5, 63, 64, 65, 1000, 1025, 4097])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_highest_are_the_sorted_head_with_lowest_ids_first(size, dtype):
    rng = np.random.default_rng(size)
    for spread in (2, 50, 10**6):
        logits = rng.integers(-spread, spread, size).astype(dtype)
        logits[rng.integers(0, size, 3)] = -0.0
        expected = sorted(range(size), key=lambda i: (-logits[i], i))
        for count in (1, 3, 40, 70, 1500, size):
            found = highest(Candidates(logits), count)
            assert found.is_sorted
            assert ids(found) == expected[:count]
            assert found.logits.tolist() == logits[expected[:count]].tolist()
            on_device = highest_on_device(torch.from_numpy(logits).float(), count)
            assert ids(on_device) == expected[:count]


@pytest.mark.parametrize("count", [1, 1024, 1025, 2999, 3000, 9000])
def test_the_highest_in_any_order_are_the_same(count):
    for logits in (random_row(3000, 1), np.random.default_rng(2).integers(0, 4, 3000).astype(np.float32)):
        expected = sorted(range(3000), key=lambda i: (-logits[i], i))[:count]
        assert sorted(ids(only_highest(Candidates(logits), count))) == sorted(expected)


@pytest.mark.parametrize("allowed", [0, 1, 5, 39, 40, 41])
def test_the_highest_where_almost_all_is_banned(allowed):
    rng = np.random.default_rng(allowed)
    logits = np.full(5000, -np.inf, dtype=np.float32)
    logits[rng.permutation(5000)[:allowed]] = rng.integers(0, 9, allowed)
    expected = sorted(range(5000), key=lambda i: (-logits[i], i))[:40]
    assert ids(highest(Candidates(logits), 40)) == expected
    assert ids(highest_on_device(torch.from_numpy(logits), 40)) == expected
    for no_number in (np.nan, -np.nan):  # as bits, they are at both ends of all floats
        logits[4321] = no_number
        for count in (1, 40, 2000, 5000):
            assert np.isnan(highest_on_device(torch.from_numpy(logits), count).logits[0])


def test_infinities_are_sorted_too():
    logits = np.array([-np.inf, 1.0, -np.inf, 3.0, -1e38], dtype=np.float32)
    assert ids(highest(Candidates(logits), 5)) == [3, 1, 4, 0, 2]


def test_the_highest_of_a_selection_keep_their_ids():
    some = Candidates(np.array([1.0, 5.0, 3.0]), np.array([70, 20, 90]))
    assert ids(highest(some, 2)) == [20, 90]
    assert highest(highest(some, 3), 1).token_at(0) == 20


def test_places_of_tokens():
    whole = Candidates(np.zeros(5))
    places, known = whole.places_of(np.array([4, 9, 0]))
    assert (places.tolist(), known.tolist()) == ([4, 0], [True, False, True])
    some = Candidates(np.zeros(3), np.array([70, 20, 90]))
    places, known = some.places_of(np.array([90, 1, 20, 1000]))
    assert (places.tolist(), known.tolist()) == ([2, 1], [True, False, True, False])


def test_probabilities_of_large_logits_do_not_overflow():
    large = Candidates(np.array([1000.0, 1000.0, -1000.0], dtype=np.float32))
    assert softmax(large).tolist() == [0.5, 0.5, 0.0]
    assert log_total(large) == pytest.approx(1000 + np.log(2))


def test_a_row_of_logits_comes_to_the_host_as_it_is():
    logits = torch.from_numpy(random_row(100, 0))
    assert on_host(logits).logits.tolist() == logits.tolist()
    assert on_host(logits.bfloat16()).logits.dtype == np.float32


@pytest.mark.gpu
def test_logits_on_a_gpu_come_to_the_host():
    logits = torch.from_numpy(random_row(5000, 0))
    assert ids(highest_on_device(logits.cuda(), 40)) == ids(highest(on_host(logits), 40))
    assert on_host(logits.cuda()).logits.tolist() == logits.tolist()
