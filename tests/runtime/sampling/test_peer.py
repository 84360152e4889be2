"""Tests of the filters against llama.cpp's own samplers, on random logits and random options."""

from __future__ import annotations

import ctypes
import random

import pytest
import torch
from mull.runtime.sampling.filters import Candidates, apply_filters
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.sampling.processors import Penalties

pytestmark = pytest.mark.peer


def theirs(logits: torch.Tensor, samplers: list) -> list[tuple[int, float, float]]:
    """Return (id, logit, probability) of what llama.cpp's samplers leave."""
    from llama_cpp import llama_cpp as native

    size = logits.shape[0]
    data = (native.llama_token_data * size)()
    for token, logit in enumerate(logits.tolist()):
        data[token].id, data[token].logit = token, logit
    choice = native.llama_token_data_array(data=data, size=size, selected=-1, sorted=False)
    for sampler in samplers:
        native.llama_sampler_apply(sampler, ctypes.byref(choice))
        native.llama_sampler_free(sampler)
    return [(choice.data[i].id, choice.data[i].logit, choice.data[i].p) for i in range(choice.size)]


@pytest.mark.parametrize("seed", range(60))
def test_a_chain_leaves_the_same_candidates_with_the_same_probabilities(seed):
    from llama_cpp import llama_cpp as native

    rng = random.Random(seed)
    spread = rng.choice([0.3, 1.0, 3.0, 6.0])
    size = rng.choice([5, 50, 300, 2000, 5000])
    logits = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * spread
    params = SamplingParams(
        top_k=rng.choice([0, 1, 5, 40, 1000]),
        typical_p=rng.choice([1.0, 1.0, 0.2, 0.9]),
        top_p=rng.choice([1.0, 0.95, 0.5, 0.1]),
        min_p=rng.choice([0.0, 0.05, 0.3]),
        temperature=rng.choice([0.3, 0.8, 1.0, 1.7]),
    )
    chain = [
        native.llama_sampler_init_top_k(params.top_k),
        native.llama_sampler_init_typical(params.typical_p, 1),
        native.llama_sampler_init_top_p(params.top_p, 1),
        native.llama_sampler_init_min_p(params.min_p, 1),
        native.llama_sampler_init_temp(params.temperature),
        native.llama_sampler_init_dist(0),
    ]
    found = apply_filters(Candidates(logits), params)
    ids = range(size) if found.ids is None else found.ids.tolist()
    ours = dict(zip(ids, found.logits.softmax(-1).tolist(), strict=True))
    assert ours == pytest.approx({token: p for token, _, p in theirs(logits, chain)}, abs=1e-5)


@pytest.mark.parametrize("seed", range(30))
def test_penalties_over_a_window_give_the_same_logits(seed):
    from llama_cpp import llama_cpp as native

    rng = random.Random(seed)
    logits = torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 3
    history = [rng.randrange(50) for _ in range(rng.randint(1, 80))]
    params = SamplingParams(
        repeat_penalty=rng.choice([1.0, 1.3]),
        presence_penalty=rng.choice([0.0, 0.5]),
        frequency_penalty=rng.choice([0.0, 0.7]),
        repeat_last_n=rng.choice([1, 5, 64]),
    )
    sampler = native.llama_sampler_init_penalties(
        50,
        params.repeat_last_n,
        params.repeat_penalty,
        params.frequency_penalty,
        params.presence_penalty,
    )
    for token in history:
        native.llama_sampler_accept(sampler, token)
    expected = [logit for _, logit, _ in theirs(logits, [sampler])]
    assert Penalties(params, history).apply(logits).tolist() == pytest.approx(expected, abs=1e-5)
