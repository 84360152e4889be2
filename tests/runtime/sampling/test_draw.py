"""Tests of the chain: the user's order, seeds, what each sampler may see of a sequence, logprobs, exact draws."""

from __future__ import annotations

import math
import random

import fakes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mull.runtime.controls import StopText
from mull.runtime.request import Request
from mull.runtime.sampling.candidates import Candidates
from mull.runtime.sampling.choice import AdaptiveP, Mirostat
from mull.runtime.sampling.draw import TABLE, Chain, active_samplers, draw_for
from mull.runtime.sampling.order import DEFAULT_ORDER
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.sampling.processors import processors_for
from mull.runtime.sampling.sampler import Sampler
from mull.runtime.scheduler import Step
from mull.runtime.sequence import Sequence
from rows import random_row

NEUTRAL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def sequence(params: SamplingParams, prompt: tuple[int, ...] = (1,)) -> Sequence:
    request = Request(prompt, params)
    return Sequence(request, StopText(fakes.Letters()), processors_for(request))


def options(**changes: object) -> SamplingParams:
    """Return parameters with every sampler neutral but for the changes."""
    return SamplingParams(**{**NEUTRAL, **changes})


def drawn(params: SamplingParams, probs: list[float], prompt: tuple[int, ...] = (1,)) -> list[float]:
    """Return the share of 4,000 draws that each token got."""
    logits = torch.tensor(probs).log()
    chain, rng = Chain(params, prompt), random.Random(3)
    counts = [0] * len(probs)
    for _ in range(4000):
        token = chain.draw(logits, rng)
        assert token is not None
        counts[token] += 1
    return [count / 4000 for count in counts]


@pytest.mark.parametrize("params", [{}, {"top_k": 0}, {"top_k": 0, "min_p": 0.0, "top_p": 1.0}])
def test_draws_follow_the_distribution(params):
    wanted = [0.5, 0.25, 0.15, 0.1]
    found = drawn(SamplingParams(**{"temperature": 1.0, "top_p": 1.0, **params}), wanted)
    assert found == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"top_n_sigma": 1.0}, [0, 0, 3 / 7, 4 / 7]),
        ({"xtc_probability": 1.0, "xtc_threshold": 0.19}, [1 / 3, 2 / 3, 0, 0]),
        ({"xtc_probability": 1.0, "xtc_threshold": 0.6}, [0.1, 0.2, 0.3, 0.4]),
        ({"temperature": 0.5}, [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
        ({"mirostat": 2, "mirostat_tau": 0.8, "mirostat_eta": 0.0}, [0, 0, 0, 1.0]),
        ({"mirostat": 2, "mirostat_tau": 0.9, "mirostat_eta": 0.0}, [0, 0, 3 / 7, 4 / 7]),
        ({"min_p": 0.7}, [0, 0, 3 / 7, 4 / 7]),
        ({"top_k": 1, "min_keep": 3}, [0, 0, 0, 1.0]),
        ({"top_p": 0.1, "min_keep": 2}, [0, 0, 3 / 7, 4 / 7]),
        ({"typical_p": 0.1, "min_keep": 1}, [0, 0, 1.0, 0]),
        ({"repeat_penalty": 1e6}, [0.1 / 0.8, 0, 0.3 / 0.8, 0.4 / 0.8]),
    ],
)
def test_every_option_does_what_it_says(params, expected):
    assert drawn(options(**params), [0.1, 0.2, 0.3, 0.4]) == pytest.approx(expected, abs=0.03)


def test_xtc_happens_as_often_as_asked():
    found = drawn(options(xtc_probability=0.25, xtc_threshold=0.3), [0.6, 0.4])
    assert found == pytest.approx([0.6 * 0.75, 0.4 * 0.75 + 0.25], abs=0.03)


def test_adaptive_p_draws_from_its_curve():
    near = [math.exp(-10 * d * d / (1 + d)) for d in (abs(p - 0.25) / 0.3 for p in (0.7, 0.25, 0.05))]
    found = drawn(options(adaptive_target=0.25), [0.7, 0.25, 0.05])
    assert found == pytest.approx([share / sum(near) for share in near], abs=0.03)


def test_dry_and_its_breakers_reach_the_draw():
    prompt = (0, 1, 2, 0, 1)
    params = options(temperature=0.0, dry_multiplier=5.0, samplers=("dry",))
    logits = torch.tensor([0.0, 0.0, 1.0])
    assert draw_for(sequence(params, prompt), logits) == 0
    broken = options(temperature=0.0, dry_multiplier=5.0, dry_breakers={0: ((),)})
    assert draw_for(sequence(broken, prompt), logits) == 2


def test_the_order_is_the_users():
    """Of 0.4, 0.3, 0.2, 0.1: the two highest hold 0.7, but 0.4 alone holds 0.57 of those two."""
    probs = [0.4, 0.3, 0.2, 0.1]
    first_k = options(top_k=2, top_p=0.5, samplers=("top_k", "top_p"))
    first_p = options(top_k=2, top_p=0.5, samplers=("top_p", "top_k"))
    assert drawn(first_k, probs) == pytest.approx([1, 0, 0, 0], abs=0.03)
    assert drawn(first_p, probs) == pytest.approx([4 / 7, 3 / 7, 0, 0], abs=0.03)


def test_a_sampler_that_is_not_named_does_not_run():
    params = SamplingParams(top_k=1, repeat_penalty=1e6, samplers=("temperature",), temperature=1.0)
    assert drawn(params, [0.4, 0.3, 0.2, 0.1]) == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.03)
    assert active_samplers(SamplingParams(samplers=())) == []


def test_penalties_stand_where_the_user_puts_them():
    probs, last = [0.4, 0.3, 0.2, 0.1], (0,)
    late = options(top_k=2, repeat_penalty=1e9, samplers=("top_k", "penalties"))
    early = options(top_k=2, repeat_penalty=1e9, samplers=("penalties", "top_k"))
    assert drawn(late, probs, last) == pytest.approx([0, 1, 0, 0], abs=0.03)
    assert drawn(early, probs, last) == pytest.approx([0, 0.6, 0.4, 0], abs=0.03)


def test_neutral_samplers_do_not_run():
    assert active_samplers(options()) == []
    assert all(row.is_neutral(options()) for row in TABLE.values())
    assert active_samplers(SamplingParams()) == ["top_k", "top_p", "min_p", "temperature"]
    everything = SamplingParams(
        repeat_penalty=1.1, dry_multiplier=1.0, top_n_sigma=1.0, typical_p=0.9, xtc_probability=0.5
    )
    assert active_samplers(everything) == list(DEFAULT_ORDER[:-1])
    assert active_samplers(SamplingParams(temperature=0.0, repeat_penalty=1.1)) == ["penalties"]
    assert active_samplers(SamplingParams(mirostat=1, repeat_penalty=1.1)) == ["temperature"]
    assert active_samplers(SamplingParams(temperature=0.0, dynatemp_range=0.5))[-1] == "temperature"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"top_k": 0, "xtc_probability": 0.5},
        {"mirostat": 1},
        {"mirostat": 2},
        {"adaptive_target": 0.3},
        {"dry_multiplier": 1.0, "repeat_penalty": 1.2},
    ],
)
def test_a_seed_repeats_a_text_whatever_runs_beside_it(params):
    """Two sequences drawn in turn get what each gets alone."""
    rows = [torch.from_numpy(random_row(400, i)) for i in range(30)]

    def run(*seeds: int) -> list[list[int]]:
        together = [sequence(SamplingParams(**{**params, "seed": seed})) for seed in seeds]
        texts: list[list[int]] = [[] for _ in together]
        for row in rows:
            for seq, text in zip(together, texts, strict=True):
                token = draw_for(seq, row.clone())
                assert token is not None
                for processor in seq.processors:
                    processor.accept(token)
                text.append(token)
        return texts

    assert run(7, 8) == [*run(7), *run(8)]
    assert run(7) == run(7) != run(8)


@pytest.mark.parametrize(
    ("params", "rule"),
    [({"mirostat": 2, "mirostat_eta": 0.9}, Mirostat), ({"adaptive_target": 0.2}, AdaptiveP)],
)
def test_a_choice_learns_from_what_the_chain_accepts(params, rule):
    chain, alone = Chain(options(**params)), rule(options(**params))
    rng, same = random.Random(1), random.Random(1)
    rows = [random_row(300, i) for i in range(40)]
    for row in rows:
        token = alone.take(Candidates(row), same.random())
        alone.accept(token)
        assert chain.draw(torch.from_numpy(row), rng) == token
        chain.accept(token)


def test_a_chain_knows_the_tokens_before_its_first_draw_and_those_put_in_by_force():
    params = options(temperature=0.0, repeat_penalty=100.0, repeat_last_n=-1)
    seq = sequence(params, (0,))
    seq.tokens.append(1)  # what thinking opened
    logits = torch.tensor([5.0, 4.0, 3.0, 2.0])
    assert draw_for(seq, logits) == 2
    for processor in seq.processors:
        processor.accept(2)
        processor.accept(3)  # by force
    assert draw_for(seq, logits) == 0
    assert len(seq.processors) == 1


def test_penalties_beyond_all_bounds_leave_nothing_to_draw():
    params = options(frequency_penalty=3e38, repeat_last_n=-1)
    chain = Chain(params, [0, 0, 0, 1, 1, 1])
    assert chain.draw(torch.tensor([1.0, 2.0]), random.Random(0)) is None


@given(seed=st.integers(0, 2**32), data=st.data())
def test_whatever_the_options_something_allowed_is_drawn(seed, data):
    share = st.floats(0, 1)
    params = SamplingParams(
        temperature=data.draw(st.floats(0, 3)),
        top_k=data.draw(st.integers(0, 30)),
        top_p=data.draw(share),
        min_p=data.draw(share),
        typical_p=data.draw(st.floats(0.01, 1)),
        repeat_penalty=data.draw(st.floats(0.5, 2)),
        samplers=tuple(data.draw(st.permutations(DEFAULT_ORDER))[: data.draw(st.integers(0, 10))]),
        min_keep=data.draw(st.integers(0, 9)),
        top_n_sigma=data.draw(st.floats(-1, 3)),
        xtc_probability=data.draw(share),
        xtc_threshold=data.draw(share),
        dry_multiplier=data.draw(st.floats(0, 3)),
        dynatemp_range=data.draw(st.floats(0, 2)),
        dynatemp_exponent=data.draw(st.floats(0, 3)),
        mirostat=data.draw(st.sampled_from([0, 0, 1, 2])),
        mirostat_tau=data.draw(st.floats(0, 10)),
        adaptive_target=data.draw(st.floats(-1, 1)),
        seed=seed,
    )
    params.validate()
    logits = torch.from_numpy(random_row(60, seed % 1000))
    logits[::3] = -math.inf
    seq = sequence(params, (1, 2, 4, 1, 2))
    for _ in range(4):
        token = draw_for(seq, logits.clone())
        assert token is not None
        assert token % 3
        for processor in seq.processors:
            processor.accept(token)


def logprobs_of(params, logits, prompt=()):
    """Let a sampler draw one token after a prompt; return the token, if any, and what was noted of it."""
    seq = sequence(params, prompt or (1,))
    seq.num_computed = seq.num_prompt - 1
    (drawn,) = Sampler().sample(logits.view(1, -1), Step([(seq, 1)]))
    assert set(seq.logprobs) == ({seq.num_prompt} if seq.logprobs else set())
    return drawn.tokens, list(seq.logprobs.values())


def test_logprobs_are_the_models_own_before_every_sampler():
    probs = [0.5, 0.25, 0.15, 0.1]
    params = SamplingParams(
        temperature=0.3, top_k=1, repeat_penalty=1.2, logit_bias={2: 50.0}, logprobs=3, seed=1
    )
    tokens, (found,) = logprobs_of(params, torch.tensor(probs).log() + 17, (2,))
    assert tokens == [found.token] == [2]
    assert found.logprob == pytest.approx(math.log(0.15), abs=1e-5)
    assert [token for token, _ in found.top] == [0, 1, 2]
    assert [value for _, value in found.top] == pytest.approx([math.log(p) for p in probs[:3]], abs=1e-5)


def test_no_logprobs_unless_asked_and_no_top_for_0():
    assert logprobs_of(SamplingParams(), torch.zeros(4))[1] == []
    (alone,) = logprobs_of(SamplingParams(logprobs=0), torch.zeros(4))[1]
    assert (len(alone.top), alone.logprob) == (0, pytest.approx(math.log(0.25)))
    (many,) = logprobs_of(SamplingParams(logprobs=9), torch.zeros(4))[1]
    assert [token for token, _ in many.top] == [0, 1, 2, 3]


def test_no_logprob_for_a_token_that_was_not_drawn():
    params = SamplingParams(logprobs=1, logit_bias={0: -math.inf, 1: -math.inf})
    assert logprobs_of(params, torch.zeros(2)) == ([], [])


def test_no_warning_of_arithmetic_gets_out():
    logits = torch.full((50,), -math.inf)
    logits[3] = 1.0
    with np.errstate(all="raise"):
        for mirostat in (0, 1, 2):
            params = SamplingParams(top_k=0, typical_p=0.5, top_n_sigma=1.0, mirostat=mirostat)
            assert Chain(params).draw(logits, random.Random(0)) == 3
