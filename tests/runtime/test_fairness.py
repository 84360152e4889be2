"""Tests of how a step's tokens are shared: no reply waits for a prompt, and no prompt for a longer one."""

from __future__ import annotations

import random

import fakes
import pytest
from mull.runtime.engine import Engine
from mull.runtime.request import Request
from mull.runtime.sampling.params import SamplingParams

VOCAB = 23


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    """Return a prompt that shares nothing with those of other seeds."""
    rng = random.Random(seed)
    return tuple(rng.randrange(VOCAB) for _ in range(length))


def engine(**options: int) -> Engine:
    """Return an engine with room for a few hundred tokens."""
    return fakes.engine(fakes.hashed(VOCAB), num_blocks=256, **options)


def submit(engine: Engine, name: str, length: int, most: int = 1, seed: int | None = None) -> None:
    """Queue a prompt of this length for an answer of at most this length."""
    text = prompt(length, sum(map(ord, name)) if seed is None else seed)
    engine.submit(Request(text, SamplingParams(max_tokens=most), id=name))


def test_every_reply_goes_on_in_every_step_while_a_long_prompt_is_read():
    served = engine(token_budget=64, chunk=64, busy_chunk=16)
    for name in ("a", "b", "c"):
        submit(served, name, 3, most=60)
    served.step()
    submit(served, "long", 300)
    before = len(served.runner.steps)
    while not any(output.request_id == "long" and output.finish for output in served.step()):
        fakes.check(served)
    steps = [dict(step) for step in served.runner.steps[before:]]
    assert len(steps) == -(-300 // 16)
    for step in steps:
        assert {name: step[name] for name in ("a", "b", "c")} == {"a": 1, "b": 1, "c": 1}
        assert step["long"] <= 16


def test_a_prompt_has_the_whole_budget_while_nobody_replies():
    served = engine(token_budget=64, chunk=64, busy_chunk=16)
    submit(served, "long", 150)
    fakes.drain(served)
    assert [count for step in served.runner.steps for _, count in step] == [64, 64, 22]


def test_a_short_prompt_is_answered_while_a_long_one_is_read():
    served = engine(token_budget=32, chunk=32)
    submit(served, "long", 300)
    served.step()
    submit(served, "short", 16)
    assert {output.request_id for output in served.step() if output.finish} == {"short"}
    assert dict(served.runner.steps[-1]) == {"long": 16, "short": 16}


def test_the_oldest_prompt_keeps_half_however_many_short_ones_come():
    served = engine(token_budget=32, chunk=32)
    submit(served, "long", 160)
    for index in range(60):
        submit(served, f"short{index}", 8, seed=index)
    steps = 0
    while not any(output.request_id == "long" and output.finish for output in served.step()):
        steps += 1
        assert dict(served.runner.steps[-1])["long"] >= 16
    assert steps < 10


def test_the_whole_budget_is_used():
    served = engine(token_budget=32, chunk=32)
    for index in range(8):
        submit(served, f"r{index}", 12, seed=index)
    fakes.drain(served)
    assert [sum(count for _, count in step) for step in served.runner.steps] == [32, 32, 32]


@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_more_run_at_once_than_may(most):
    served = engine(max_running=most)
    for index in range(7):
        submit(served, f"r{index}", 5, most=4, seed=index)
    while served.has_work:
        served.step()
        assert len(served.scheduler.running) <= most
    assert max(len(step) for step in served.runner.steps) == most


def test_what_many_prompts_begin_with_is_computed_once():
    served = engine(token_budget=32, chunk=32)
    shared = prompt(100)
    for index in range(8):
        own = prompt(6, seed=index + 1)
        served.submit(Request((*shared, *own), SamplingParams(max_tokens=1), id=f"r{index}"))
    found = fakes.drain(served)
    assert sum(outputs[-1].num_cached == 100 for outputs in found.values()) == 7
    assert served.runner.num_tokens == 106 + 7 * 6


def test_who_waits_for_a_prompt_that_is_aborted_computes_it():
    served = engine(token_budget=16, chunk=16)
    for name in ("first", "second"):
        submit(served, name, 50, seed=1)
    served.step()
    served.abort("first")
    assert fakes.drain(served)["second"][-1].num_cached == 16
    assert served.pool.num_available == served.pool.num_blocks


def test_an_engine_counts_what_it_does():
    served = engine(max_running=2)
    submit(served, "first", 20, most=4, seed=1)
    fakes.drain(served)
    submit(served, "second", 20, most=4, seed=1)
    for name in ("third", "fourth"):
        submit(served, name, 9, most=50)
    served.step()
    served.step()
    stats = served.scheduler.stats()
    assert (stats.running, stats.waiting, stats.steps) == (2, 1, 6)
    assert (stats.prompt_tokens, stats.cached_tokens, stats.generated_tokens) == (49, 16, 8)
    assert stats.blocks_used + stats.blocks_cached <= stats.blocks_total
    assert stats.blocks_used * stats.block_size >= 20 + 9
    for name in ("second", "third", "fourth"):
        served.abort(name)
    after = served.scheduler.stats()
    assert (after.running, after.waiting, after.blocks_used) == (0, 0, 0)
    assert (after.finished, after.cancelled) == (1, 3)
    served.pool.check()
