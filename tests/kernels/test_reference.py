"""Attention and the search for the largest, checked against loops that follow their definitions."""

from __future__ import annotations

import random

import pytest
import torch
from mull.kernels import reference
from mull.kernels.cpu import native as native  # registers its kernels
from mull.kernels.dispatch import find
from mull.kernels.reference import AttentionShape, attend


def by_definition(q, k, v, shape):
    """Attend query by query and head by head, in float64."""
    (n, heads, _), (context, kv_heads, _) = q.shape, k.shape
    out = torch.zeros(q.shape, dtype=torch.float64)
    for row in range(n):
        at = context - n + row
        first = 0 if shape.window is None else max(0, at + 1 - shape.window)
        for head in range(heads):
            keys, values = (x[first : at + 1, head * kv_heads // heads].double() for x in (k, v))
            scores = keys @ q[row, head].double() * shape.scale
            if shape.softcap:
                scores = shape.softcap * torch.tanh(scores / shape.softcap)
            out[row, head] = scores.softmax(0) @ values
    return out


@pytest.mark.parametrize("softcap", [0.0, 3.0])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_by_its_definition(softcap, kv_heads):
    rng, generator = random.Random(kv_heads), torch.Generator().manual_seed(kv_heads)
    for _ in range(60):
        context = rng.randint(1, 30)
        n = rng.choice([1, context, rng.randint(1, context)])
        window = rng.choice([None, 1, context, context + 1, rng.randint(1, 35)])
        q = torch.randn(n, 4, 8, generator=generator)
        k, v = torch.randn(2, context, kv_heads, 8, generator=generator)
        shape = AttentionShape(scale=0.4, window=window, softcap=softcap)
        torch.testing.assert_close(
            attend(q, k, v, shape).double(), by_definition(q, k, v, shape), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("find_highest", [reference.highest, find("highest", device="cpu")])
@pytest.mark.parametrize("size", [1, 5, 63, 64, 65, 1000, 4097])
def test_the_largest_come_first_and_of_equal_ones_the_first(size, find_highest):
    generator = torch.Generator().manual_seed(size)
    for spread in (2, 50, 10**6):
        x = torch.randint(spread, (size,), generator=generator).float() - spread / 2
        x[torch.rand(size, generator=generator) < 0.2] = float("-inf")
        expected = sorted(range(size), key=lambda i: (-x[i], i))
        for count in (1, 3, 40, 70, size + 1):
            places, values = find_highest(x, count)
            assert places.tolist() == expected[:count]
            assert torch.equal(values, x[expected[:count]])


@pytest.mark.parametrize("find_highest", [reference.highest, find("highest", device="cpu")])
@pytest.mark.parametrize("at", [0, 70, 999])
def test_what_is_not_a_number_counts_as_largest(at, find_highest):
    x = torch.arange(1000.0)
    x[at] = float("nan")
    for count in (1, 5):
        assert find_highest(x, count)[1][0].isnan()
