"""Attention, checked against a loop that follows its definition."""

from __future__ import annotations

import random

import pytest
import torch
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
