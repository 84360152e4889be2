"""Tests of the engine: how a request ends, and what its text and ids are then."""

from __future__ import annotations

import fakes
import pytest
import torch
from mull.errors import InvalidRequest
from mull.runtime.request import Request
from mull.runtime.sampling.params import SamplingParams

PROMPT = (1, 2)
GREEDY = SamplingParams(temperature=0)


def answer(engine, params=GREEDY, eos=frozenset()):
    """Return ids, text and reason of the answer to PROMPT."""
    engine.submit(Request(PROMPT, params, eos, id="r"))
    outputs = fakes.drain(engine)["r"]
    return fakes.tokens_of(outputs), fakes.text_of(outputs), outputs[-1].finish


def test_an_end_of_generation_id_is_counted_but_is_no_text():
    engine = fakes.engine(fakes.scripted({PROMPT: (7, 4, 11, 9)}, 16))
    assert answer(engine, eos=frozenset({9, 10})) == ((7, 4, 11, 9), "hel", "stop")


def test_ignored_end_of_generation_ids_never_come():
    engine = fakes.engine(fakes.scripted({PROMPT: (7, 9)}, 16))
    params = SamplingParams(temperature=0, ignore_eos=True, max_tokens=30)
    tokens, _, finish = answer(engine, params, eos=frozenset({9}))
    assert (len(tokens), finish) == (30, "length")
    assert 9 not in tokens


def test_a_stop_string_across_tokens_cuts_the_text_and_keeps_the_ids():
    engine = fakes.engine(fakes.scripted({PROMPT: (0, 1, 2, 3)}, 4), pieces=["one ", "tw", "o th", "ree"])
    params = SamplingParams(temperature=0, stop=("two",))
    assert answer(engine, params) == ((0, 1, 2), "one ", "stop")


def test_held_back_text_comes_with_the_end():
    engine = fakes.engine(fakes.scripted({PROMPT: (0, 1, 2)}, 3), pieces=["a", "ST", "END"])
    params = SamplingParams(temperature=0, stop=("STOP",), max_tokens=2)
    assert answer(engine, params) == ((0, 1), "aST", "length")
    engine = fakes.engine(fakes.scripted({PROMPT: (0, 1, 2)}, 3), pieces=["a", "ST", "END"])
    params = SamplingParams(temperature=0, stop=("STOP",))
    assert answer(engine, params, eos=frozenset({2})) == ((0, 1, 2), "aST", "stop")


def test_a_request_whose_tokens_are_all_banned_ends():
    engine = fakes.engine(fakes.hashed(2))
    params = SamplingParams(logit_bias={0: float("-inf"), 1: float("-inf")})
    assert answer(engine, params) == ((), "", "stop")


def test_a_custom_processor_forces_tokens():
    class Forced:
        def __init__(self) -> None:
            self.script = [3, 1, 2]

        def apply(self, logits):
            return torch.full_like(logits, float("-inf")).index_fill(0, torch.tensor([self.script[0]]), 0.0)

        def accept(self, token):
            assert token == self.script.pop(0)

    engine = fakes.engine(fakes.hashed(8))
    sequence = engine.submit(Request(PROMPT, SamplingParams(max_tokens=3), id="r"))
    sequence.processors.insert(0, Forced())
    assert fakes.tokens_of(fakes.drain(engine)["r"]) == (3, 1, 2)


def test_options_out_of_range_are_refused_before_anything_runs():
    engine = fakes.engine(fakes.hashed(8))
    with pytest.raises(InvalidRequest) as caught:
        engine.submit(Request(PROMPT, SamplingParams(top_p=2)))
    assert caught.value.field == "top_p"
    assert not engine.has_work


def test_a_step_without_work_does_nothing():
    engine = fakes.engine(fakes.hashed(8))
    assert engine.step() == []
    assert engine.runner.steps == []


def test_a_reset_engine_serves_again():
    engine = fakes.engine(fakes.hashed(8))
    engine.submit(Request(tuple(range(9)), id="lost"))
    engine.step()
    engine.reset()
    fakes.check(engine)
    assert engine.pool.num_available == engine.pool.num_blocks
    tokens, _, finish = answer(engine, SamplingParams(max_tokens=4))
    assert (len(tokens), finish) == (4, "length")
