"""Tests of the one rule: the answers depend on nothing but the requests."""

from __future__ import annotations

import random

import fakes
import pytest
from mull.errors import ContextExceeded, InvalidRequest
from mull.runtime.engine import Engine
from mull.runtime.request import Request
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.sequence import Sequence

VOCAB = 23


def requests() -> list[Request]:
    """Return requests of many kinds, some with a common beginning."""
    rng = random.Random(1)
    shared = tuple(rng.randrange(VOCAB) for _ in range(21))
    found = []
    for index in range(9):
        own = tuple(rng.randrange(VOCAB) for _ in range(rng.randint(1, 18)))
        params = SamplingParams(
            temperature=[0.0, 1.0, 1.5][index % 3],
            top_k=[40, 0, 5][index % 3],
            repeat_penalty=1.3 if index % 2 else 1.0,
            seed=index,
            max_tokens=5 + 2 * index,
            stop=("qq", "ab") if index == 4 else (),
            logit_bias={3: -5.0} if index == 5 else {},
        )
        found.append(Request(shared + own if index % 2 else own, params, frozenset({0}), id=f"r{index}"))
    return found


def answers(engine: Engine) -> dict[str, tuple[tuple[int, ...], str, str | None]]:
    """Run all requests together; return ids, text and reason of each."""
    for request in requests():
        engine.submit(request)
    return {
        name: (fakes.tokens_of(outputs), fakes.text_of(outputs), outputs[-1].finish)
        for name, outputs in fakes.drain(engine).items()
    }


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[tuple[int, ...], str, str | None]]:
    """The answers when every request has an engine of its own."""
    found = {}
    for request in requests():
        engine = fakes.engine(fakes.hashed(VOCAB), reuse=False)
        engine.submit(request)
        outputs = fakes.drain(engine)[request.id]
        found[request.id] = (fakes.tokens_of(outputs), fakes.text_of(outputs), outputs[-1].finish)
    return found


@pytest.mark.parametrize("budget", [1, 2, 7, 64, 512])
@pytest.mark.parametrize("chunk", [1, 3, 16, 512])
@pytest.mark.parametrize("reuse", [True, False])
def test_answers_are_the_same_for_every_budget_and_chunk(alone, budget, chunk, reuse):
    engine = fakes.engine(fakes.hashed(VOCAB), token_budget=budget, chunk=chunk, reuse=reuse)
    assert answers(engine) == alone
    assert engine.pool.num_available == engine.pool.num_blocks


@pytest.mark.parametrize("num_blocks", [16, 20, 30])
@pytest.mark.parametrize("budget", [5, 512])
@pytest.mark.parametrize("reuse", [True, False])
def test_answers_are_the_same_when_blocks_run_out(alone, num_blocks, budget, reuse):
    engine = fakes.engine(
        fakes.hashed(VOCAB), num_blocks=num_blocks, token_budget=budget, chunk=4, reuse=reuse
    )
    assert answers(engine) == alone


def test_blocks_do_run_out_above():
    engine = fakes.engine(fakes.hashed(VOCAB), num_blocks=16, reuse=False)
    answers(engine)
    plenty = fakes.engine(fakes.hashed(VOCAB), num_blocks=256, reuse=False)
    answers(plenty)
    assert engine.runner.num_tokens > plenty.runner.num_tokens


def test_drafts_change_nothing_but_the_number_of_steps(alone):
    plain = fakes.engine(fakes.hashed(VOCAB))
    answers(plain)
    for budget, chunk in ((512, 512), (6, 4), (3, 2)):
        engine = fakes.engine(fakes.hashed(VOCAB), token_budget=budget, chunk=chunk, num_blocks=24)
        for request in requests():
            engine.submit(request)
        outputs: dict[str, list] = {name: [] for name in alone}
        rng = random.Random(2)
        while engine.has_work:
            for output in engine.step():
                outputs[output.request_id].append(output)
            fakes.check(engine)
            for seq in engine.scheduler.running:
                if seq.num_pending == 1 and seq.num_generated:
                    # Half of the guesses are right.
                    true = alone[seq.id][0][seq.num_generated :][:4]
                    seq.drafts = [t if rng.random() < 0.7 else (t + 1) % VOCAB for t in true]
        assert {
            name: (fakes.tokens_of(found), fakes.text_of(found), found[-1].finish)
            for name, found in outputs.items()
        } == alone
        if budget == 512:
            assert len(engine.runner.steps) < len(plain.runner.steps)


def test_a_repeated_prompt_is_computed_once():
    engine = fakes.engine(fakes.hashed(VOCAB))
    prompt = tuple(range(18))
    for name in ("first", "second"):
        engine.submit(Request(prompt, SamplingParams(max_tokens=1), id=name))
        outputs = fakes.drain(engine)[name]
    assert outputs[-1].num_cached == 16
    assert engine.runner.num_tokens == 18 + 2


def test_the_answer_is_part_of_the_next_turns_prefix():
    engine = fakes.engine(fakes.hashed(VOCAB))
    engine.submit(Request((1, 2, 3), SamplingParams(temperature=0, max_tokens=14), id="first"))
    answer = fakes.tokens_of(fakes.drain(engine)["first"])
    engine.submit(Request((1, 2, 3, *answer, 4, 5), SamplingParams(max_tokens=1), id="second"))
    assert fakes.drain(engine)["second"][0].num_cached == 16


def test_progress_is_told_chunk_by_chunk():
    engine = fakes.engine(fakes.hashed(VOCAB), chunk=4)
    engine.submit(Request(tuple(range(10)), SamplingParams(max_tokens=2), id="r"))
    outputs = fakes.drain(engine)["r"]
    assert [(output.num_computed, len(output.tokens)) for output in outputs] == [
        (4, 0),
        (8, 0),
        (10, 1),
        (10, 1),
    ]
    assert {output.num_prompt for output in outputs} == {10}


def test_a_step_never_exceeds_budget_or_chunk():
    engine = fakes.engine(fakes.hashed(VOCAB), token_budget=7, chunk=3)
    answers(engine)
    for step in engine.runner.steps:
        assert sum(count for _, count in step) <= 7
        assert max(count for _, count in step) <= 3


def test_the_oldest_goes_first_and_the_youngest_yields():
    engine = fakes.engine(fakes.hashed(VOCAB), num_blocks=6, block_size=2, reuse=False)
    for name in ("old", "young"):
        engine.submit(Request((1, 2, 3), SamplingParams(max_tokens=8), id=name))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
        fakes.check(engine)
    finished = [output.request_id for output in outputs if output.finish]
    assert finished == ["old", "young"]
    assert sum(count for step in engine.runner.steps for name, count in step if name == "old") == 10
    assert sum(count for step in engine.runner.steps for name, count in step if name == "young") > 10


@pytest.mark.parametrize("reuse", [True, False])
def test_who_was_preempted_comes_before_later_arrivals_and_reports_no_progress_twice(reuse):
    engine = fakes.engine(fakes.hashed(VOCAB), num_blocks=6, block_size=2, chunk=1, reuse=reuse)
    for name in ("old", "young", "late"):
        engine.submit(
            Request((1, 2, 3) if name == "old" else (4, 5, 6), SamplingParams(max_tokens=8), id=name)
        )
    outputs = []
    while engine.has_work:
        outputs += engine.step()
        fakes.check(engine)
    assert [output.request_id for output in outputs if output.finish] == ["old", "young", "late"]
    young = [output for output in outputs if output.request_id == "young"]
    assert sum(count for step in engine.runner.steps for name, count in step if name == "young") > 10
    done = [output.num_computed for output in young]
    assert done == sorted(done)
    assert {output.num_cached for output in young} == {0}


def test_a_prompt_is_reused_while_its_first_request_is_still_computing_it():
    engine = fakes.engine(fakes.hashed(VOCAB), chunk=4)
    prompt = tuple(range(18))
    engine.submit(Request(prompt, SamplingParams(max_tokens=1), id="first"))
    engine.step()
    engine.step()
    engine.submit(Request(prompt, SamplingParams(max_tokens=1), id="second"))
    # It waits for what the first has yet to compute, too.
    assert fakes.drain(engine)["second"][0].num_cached == 16
    assert engine.runner.num_tokens == 18 + 2


def test_drafts_beyond_the_context_are_dropped():
    engine = fakes.engine(fakes.hashed(VOCAB), num_blocks=2, block_size=4)
    sequence = engine.submit(Request((1, 2, 3, 4, 5, 6), SamplingParams(temperature=0), id="r"))
    engine.step()
    sequence.drafts = [1, 2, 3, 4, 5]
    assert fakes.drain(engine)["r"][-1].finish == "length"
    assert len(sequence.tokens) == 8


@pytest.mark.parametrize(("most", "length"), [(0, 0), (1, 1), (5, 5)])
def test_max_tokens_ends_with_length(most, length):
    engine = fakes.engine(fakes.hashed(VOCAB))
    engine.submit(Request((1, 2), SamplingParams(max_tokens=most), id="r"))
    outputs = fakes.drain(engine)["r"]
    assert (len(fakes.tokens_of(outputs)), outputs[-1].finish) == (length, "length")


@pytest.mark.parametrize("options", [{"max_context": 9}, {"num_blocks": 3, "block_size": 3}])
def test_the_context_ends_with_length(options):
    engine = fakes.engine(fakes.hashed(VOCAB), **options)
    engine.submit(Request((1, 2), id="r"))
    outputs = fakes.drain(engine)["r"]
    assert (len(fakes.tokens_of(outputs)), outputs[-1].finish) == (7, "length")


def test_a_prompt_without_room_for_an_answer_is_refused():
    engine = fakes.engine(fakes.hashed(VOCAB), max_context=9)
    engine.submit(Request(tuple(range(8)), id="fits"))
    with pytest.raises(ContextExceeded, match=r"12 tokens.*4 too many"):
        engine.submit(Request(tuple(range(12))))
    with pytest.raises(InvalidRequest, match="empty"):
        engine.submit(Request(()))


def test_an_id_that_is_under_way_is_refused():
    engine = fakes.engine(fakes.hashed(VOCAB))
    engine.submit(Request((1,), SamplingParams(max_tokens=1), id="r"))
    with pytest.raises(InvalidRequest, match="under way"):
        engine.submit(Request((1,), id="r"))
    fakes.drain(engine)
    engine.submit(Request((1,), SamplingParams(max_tokens=1), id="r"))


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("num_blocks", [14, 64])
def test_an_abort_at_any_step_frees_everything(steps, num_blocks):
    engine = fakes.engine(fakes.hashed(VOCAB), num_blocks=num_blocks, token_budget=20, chunk=6)
    for request in requests():
        engine.submit(request)
    for _ in range(steps):
        engine.step()
    for request in requests():
        output = engine.abort(request.id)
        assert output is None or output.finish == "cancelled"
        fakes.check(engine)
    assert not engine.has_work
    assert engine.step() == []
    assert engine.pool.num_available == engine.pool.num_blocks
    assert engine.abort("r0") is None


def test_an_abort_leaves_the_others_as_they_were(alone):
    engine = fakes.engine(fakes.hashed(VOCAB), num_blocks=20, token_budget=16, chunk=6)
    for request in requests():
        engine.submit(request)
    engine.step()
    engine.abort("r1")
    engine.abort("r8")
    found = fakes.drain(engine)
    for name in ("r0", "r3", "r7"):
        assert found[name][-1].finish == alone[name][2]
    assert "r1" not in found


def test_pending_tokens_include_drafts():
    seq = Sequence(Request((1, 2, 3)), None)
    seq.num_computed = 2
    seq.drafts = [7, 8]
    assert seq.num_pending == 3
    assert seq.pending(3) == [3, 7, 8]
    assert (seq.num_logits(3), seq.num_logits(1)) == (3, 0)
