"""Tests of the sampler: greedy ties, bans, seeds, and the walk over drafts."""

from __future__ import annotations

import math

import fakes
import pytest
import torch
from mull.errors import MullError
from mull.runtime.controls import StopText
from mull.runtime.request import Request
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.sampling.processors import processors_for
from mull.runtime.sampling.sampler import Sampler
from mull.runtime.scheduler import Step
from mull.runtime.sequence import Sequence

NO_IDS: frozenset[int] = frozenset()


def sequence(
    params: SamplingParams, prompt: tuple[int, ...] = (1,), eos: frozenset[int] = NO_IDS
) -> Sequence:
    request = Request(prompt, params, eos)
    return Sequence(request, StopText(fakes.Letters()), processors_for(request))


def tokens(logits: torch.Tensor, step: Step) -> list[list[int]]:
    return [drawn.tokens for drawn in Sampler().sample(logits, step)]


def test_greedy_takes_the_lowest_of_equal_ids():
    logits = torch.zeros(300)
    logits[[70, 71, 299]] = 2.0
    assert Sampler().draw(logits, sequence(SamplingParams(temperature=0))) == 70


def test_greedy_heeds_bias_and_penalties_but_no_other_sampler():
    logits = torch.tensor([1.0, 3.0, 2.0])
    params = SamplingParams(
        temperature=0, top_k=1, top_p=0.0, typical_p=0.01, repeat_penalty=2.0, xtc_probability=1.0
    )
    assert Sampler().draw(logits, sequence(params, prompt=(1,))) == 2
    biased = SamplingParams(temperature=0, logit_bias={0: 5.0, 1000: 99.0})
    assert Sampler().draw(logits, sequence(biased)) == 0


def test_a_bias_beyond_the_vocabulary_has_no_effect_however_often():
    seq = sequence(SamplingParams(temperature=0, logit_bias={1000: 9.0}))
    assert [Sampler().draw(torch.tensor([1.0, 2.0]), seq) for _ in range(3)] == [1, 1, 1]


def test_ignored_end_of_generation_ids_are_banned():
    logits = torch.tensor([1.0, 9.0, 8.0])
    params = SamplingParams(temperature=0, ignore_eos=True, logit_bias={1: 50.0})
    assert Sampler().draw(logits, sequence(params, eos=frozenset({1, 2}))) == 0


def test_the_penalty_window_moves_on():
    logits = torch.tensor([1.0, 1.1, 1.2])
    params = SamplingParams(temperature=0, repeat_penalty=2.0, repeat_last_n=1)
    seq = sequence(params, prompt=(2,))
    step = Step([(seq, 1)])
    drawn = [Sampler().sample(logits[None].clone(), step)[0].tokens[0] for _ in range(4)]
    assert drawn == [1, 2, 1, 2]


@pytest.mark.parametrize(("last_n", "token"), [(0, 0), (1, 0), (2, 1), (3, 3), (64, 3), (-1, 3)])
def test_the_penalty_window_is_as_long_as_asked(last_n, token):
    logits = torch.tensor([4.0, 3.0, 2.0, 1.0])
    params = SamplingParams(temperature=0, repeat_penalty=100.0, repeat_last_n=last_n)
    assert Sampler().draw(logits, sequence(params, prompt=(1, 0, 2))) == token


def test_no_token_is_drawn_where_all_are_banned():
    params = SamplingParams(logit_bias={0: -math.inf, 1: -math.inf})
    assert Sampler().draw(torch.zeros(2), sequence(params)) is None


@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("size", [100, 5000])
@pytest.mark.parametrize("others", [0.0, -math.inf])
def test_logits_that_are_not_numbers_are_an_error(bad, temperature, size, others):
    logits = torch.full((size,), others)
    logits[7] = bad
    with pytest.raises(MullError, match="not finite"):
        Sampler().draw(logits, sequence(SamplingParams(temperature=temperature)))


def test_the_same_seed_draws_the_same_and_another_does_not():
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))

    def draws(seed: int | None) -> list[int | None]:
        seq = sequence(SamplingParams(temperature=2.0, seed=seed))
        return [Sampler().draw(logits, seq) for _ in range(20)]

    assert draws(5) == draws(5)
    assert draws(5) != draws(6)
    assert draws(None) != draws(None)


def test_the_seed_that_was_drawn_gives_the_same_again():
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    first = sequence(SamplingParams(temperature=2.0))
    second = sequence(SamplingParams(temperature=2.0, seed=first.seed))
    assert 0 <= first.seed < 2**32
    assert [Sampler().draw(logits, first) for _ in range(20)] == [
        Sampler().draw(logits, second) for _ in range(20)
    ]


def test_every_draw_takes_one_number_however_few_candidates_are_left():
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    narrow, wide = (sequence(SamplingParams(top_k=k, seed=1)) for k in (1, 0))
    for seq in (narrow, wide):
        Sampler().draw(logits, seq)
    assert narrow.rng.random() == wide.rng.random()


def test_a_walk_over_drafts_stops_at_the_first_that_differs():
    seq = sequence(SamplingParams(temperature=0))
    seq.drafts = [3, 4, 5]
    rows = torch.eye(8)[[3, 4, 6, 7]]
    step = Step([(seq, seq.num_pending)])
    assert tokens(rows, step) == [[3, 4, 6]]
    seq.drafts = [3, 4, 6]
    assert tokens(rows, Step([(seq, seq.num_pending)])) == [[3, 4, 6, 7]]
    seq.drafts = [0, 4, 6]
    assert tokens(rows, Step([(seq, seq.num_pending)])) == [[3]]


def test_rows_go_to_their_sequences():
    first, second, third = (sequence(SamplingParams(temperature=0), prompt=(1, 2)) for _ in range(3))
    step = Step([(first, 2), (second, 1), (third, 2)])
    assert tokens(torch.eye(5)[[4, 3]], step) == [[4], [3]]
