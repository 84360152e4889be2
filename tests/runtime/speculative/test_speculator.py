"""Tests of speculation: it changes no answer, only the number of steps, and drafts only what pays."""

from __future__ import annotations

import random

import fakes
import pytest
import torch
from mull.runtime.request import Request
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.speculative.allot import allot
from mull.runtime.speculative.costs import MOST_TOKENS, Costs
from mull.runtime.speculative.odds import Odds
from mull.runtime.speculative.speculator import MOST_GUESSES, Speculator

VOCAB = 23


def repeating(seed: int) -> fakes.Logits:
    """Return logits that depend on the last two tokens alone, so that texts come to repeat themselves."""

    def logits(prefix: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((seed, prefix[-2:])) % 2**62)
        return torch.randn(VOCAB, generator=generator) * 4

    return logits


def requests() -> list[Request]:
    """Return requests of many kinds."""
    rng = random.Random(1)
    found = []
    for index in range(12):
        prompt = tuple(rng.randrange(VOCAB) for _ in range(rng.randint(1, 30)))
        params = SamplingParams(
            temperature=[0.0, 0.7, 1.5][index % 3],
            top_k=[40, 0, 5][index % 3],
            repeat_penalty=1.1 if index % 4 == 1 else 1.0,
            dry_multiplier=0.3 if index % 5 == 1 else 0.0,
            mirostat=2 if index == 7 else 0,
            seed=index,
            max_tokens=None if index == 3 else 10 + 3 * index,
            stop=("qq", "ab") if index % 4 == 0 else (),
            logprobs=2 if index % 2 else None,
            repeat_stop=3 if index == 6 else 0,
        )
        found.append(Request(prompt * 2 if index % 2 else prompt, params, frozenset({0}), id=f"r{index}"))
    return found


def answers(engine, wanted) -> dict[str, object]:
    """Run requests together; return all that each of them was answered."""
    for request in wanted:
        engine.submit(request)
    return {
        name: (
            fakes.tokens_of(outputs),
            fakes.text_of(outputs),
            outputs[-1].finish,
            [entry for output in outputs for entry in output.logprobs],
        )
        for name, outputs in fakes.drain(engine).items()
    }


def flat(num_tokens: int) -> float:
    return 10 + 0.5 * num_tokens


def steep(num_tokens: int) -> float:
    return 10.0 * num_tokens


class Clock:
    """A runner's costs without a clock: tells a proposer that every step takes what `cost` says."""

    def __init__(self, cost) -> None:
        self.speculator = Speculator()
        self._cost = cost
        self.spent = 0.0

    def propose(self, sequences) -> None:
        self.speculator.propose(sequences)

    def observe(self, num_tokens: int, seconds: float) -> None:
        del seconds
        self.spent += self._cost(num_tokens)
        self.speculator.observe(num_tokens, self._cost(num_tokens))


@pytest.fixture(scope="module", params=[1, 2, 3])
def plain(request) -> tuple[int, dict[str, object], int]:
    """The answers of requests that each had an engine of its own without speculation, and its steps."""
    found, steps = {}, 0
    for each in requests():
        engine = fakes.engine(repeating(request.param), reuse=False)
        found |= answers(engine, [each])
        steps += len(engine.runner.steps)
    return request.param, found, steps


@pytest.mark.parametrize("fixed", [None, 1, 4, 15])
def test_answers_are_the_same_alone(plain, fixed):
    seed, expected, plain_steps = plain
    found, steps = {}, 0
    for each in requests():
        proposer = Clock(flat) if fixed is None else Speculator(fixed)
        engine = fakes.engine(repeating(seed), reuse=False, proposer=proposer)
        found |= answers(engine, [each])
        steps += len(engine.runner.steps)
    assert found == expected
    assert steps < plain_steps


@pytest.mark.parametrize("fixed", [None, 15])
@pytest.mark.parametrize("budget", [2, 7, 512])
@pytest.mark.parametrize("num_blocks", [16, 24, 64])
def test_answers_are_the_same_together_and_when_blocks_run_out(plain, fixed, budget, num_blocks):
    seed, expected, _ = plain
    proposer = Clock(flat) if fixed is None else Speculator(fixed)
    engine = fakes.engine(
        repeating(seed), num_blocks=num_blocks, token_budget=budget, chunk=9, proposer=proposer
    )
    if num_blocks == 64:
        assert answers(engine, requests()) == expected
    else:  # the one without a limit ends where the context does
        wanted = [request for request in requests() if request.sampling.max_tokens is not None]
        assert answers(engine, wanted) == {request.id: expected[request.id] for request in wanted}
    assert engine.pool.num_available == engine.pool.num_blocks


def test_drafts_are_counted():
    engine = fakes.engine(repeating(0), proposer=Speculator(4))
    engine.submit(Request((1, 2, 3) * 4, SamplingParams(temperature=0, max_tokens=60), id="r"))
    outputs = fakes.drain(engine)["r"]
    last = outputs[-1]
    assert 0 < last.num_accepted <= last.num_drafted
    assert len(outputs) == last.num_sampled - last.num_accepted
    assert last.num_forwarded == 12 + last.num_sampled - 1 + last.num_drafted - last.num_accepted
    assert last.num_sampled == 60


def test_the_end_is_not_drafted_past():
    answer = (*range(1, 9), 0)
    script = fakes.scripted({(*answer, 5): answer[:]}, VOCAB)
    engine = fakes.engine(script, proposer=Speculator(15))
    engine.submit(Request((*answer, 5), SamplingParams(temperature=0), frozenset({0}), id="r"))
    outputs = fakes.drain(engine)["r"]
    assert fakes.tokens_of(outputs) == answer
    assert outputs[-1].finish == "stop"
    assert outputs[-1].num_sampled == len(answer)


def test_guesses_take_no_blocks_from_others():
    wanted = [
        Request((1, 2, 3, 4) * 3, SamplingParams(temperature=0, max_tokens=18), id=name) for name in "ab"
    ]

    def run(proposer):
        engine = fakes.engine(
            fakes.hashed(VOCAB), num_blocks=16, max_context=40, reuse=False, proposer=proposer
        )
        answers(engine, wanted)
        return engine.scheduler.counters.preempted

    assert run(Speculator(15)) == run(None) == 0


def spend(cost, prompt: tuple[int, ...], answer: tuple[int, ...]) -> tuple[float, int]:
    """Return what a scripted answer costs beside one without guesses, and how many tokens were drafted."""
    clock = Clock(cost)
    engine = fakes.engine(
        fakes.scripted({prompt: answer}, 512), num_blocks=1024, block_size=4, proposer=clock
    )
    params = SamplingParams(temperature=0, max_tokens=len(answer))
    engine.submit(Request(prompt, params, id="r"))
    outputs = fakes.drain(engine)["r"]
    assert fakes.tokens_of(outputs) == answer
    reading = cost(len(prompt))
    return (clock.spent - reading) / ((len(answer) - 1) * cost(1)), outputs[-1].num_drafted


def random_text(seed: int, count: int, vocabulary: int = 512) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.randrange(vocabulary) for _ in range(count))


def test_a_copy_is_drafted_in_few_steps():
    source = random_text(1, 200)
    share, drafted = spend(flat, source, source)
    assert share < 0.2
    assert drafted > 150


def test_an_edited_copy_is_found_again_after_each_edit():
    source = random_text(2, 300)
    answer = list(source)
    for place in range(15, 300, 30):
        answer[place] = 511 - answer[place]
    share, _ = spend(flat, source, tuple(answer))
    assert share < 0.35


def test_text_without_repeats_costs_nothing():
    assert spend(flat, random_text(3, 200, 100), random_text(4, 400, 100))[0] < 1.02


def test_where_every_token_costs_the_same_drafting_ends_soon():
    source = random_text(1, 400)
    answer = list(source)
    for place in range(5, 400, 10):
        answer[place] = 511 - answer[place]
    share, _ = spend(steep, source, tuple(answer))
    assert share < 1.1


def test_costs_are_learned_whatever_the_machine_does_meanwhile():
    costs = Costs()
    rng = random.Random(0)
    for at in range(3000):
        tokens = rng.choice([1, 1, 2, 4, 8, 16])
        slow = 3.0 if at % 700 > 600 else 1.0
        costs.observe(tokens, slow * flat(tokens) * rng.uniform(0.95, 1.05))
    for tokens in (2, 4, 8, 16):
        assert costs[tokens] == pytest.approx(flat(tokens) / flat(1), rel=0.06)
    assert costs.seconds == pytest.approx(flat(1), rel=0.1)
    assert costs[4 * MOST_TOKENS] == 4 * costs[MOST_TOKENS]
    assert all(costs[n] <= costs[n + 1] for n in range(1, 100))


def test_odds_follow_what_came():
    odds = Odds([0.5, 0.5])
    for at in range(200):
        odds.observe(0, is_right=at % 4 == 0)
    assert odds[0] == pytest.approx(0.25, abs=0.05)
    assert odds[1] == 0.5


class Linear:
    def __init__(self, slope: float) -> None:
        self._slope = slope

    def __getitem__(self, num_tokens: int) -> float:
        return 1 + self._slope * (num_tokens - 1)


def test_allotment_is_the_best_for_one():
    rng = random.Random(0)
    for _ in range(200):
        chance, chances = 1.0, []
        for _ in range(MOST_GUESSES):
            chance *= rng.uniform(0.5, 1)
            chances.append(chance)
        costs = Linear(rng.uniform(0, 0.5))
        speeds = [(1 + sum(chances[:n])) / costs[1 + n] for n in range(MOST_GUESSES + 1)]
        chosen = allot([chances], 1, costs)[0]
        assert speeds[chosen] >= max(speeds) / 1.03


def test_allotment_prefers_the_likelier_and_slows_nobody_for_little():
    assert allot([[0.9, 0.2], [0.2, 0.1]], 2, Linear(0.2)) == [1, 0]
    assert allot([[0.9] * 3, [0.9] * 3], 2, Linear(0.01)) == [3, 3]
    assert allot([[0.9] * 9] + [[]] * 7, 8, Linear(0.2)) == [0] * 8
    assert allot([[], []], 2, Linear(0.1)) == [0, 0]
    assert allot([[0.0]], 1, Linear(0)) == [0]
