"""The budget in the engine: nothing is computed twice, batches change nothing, forced tokens pass no sampler."""

from __future__ import annotations

from dataclasses import replace

import fakes
import pytest
import torch
from mull.runtime.request import Output, Request
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.thinking.plan import ThinkingPlan

from .simulation import CLOSE, EOS, LETTERS, PIECES, TAGS, ids_of, thinking_tokens

VOCAB = len(PIECES)


class Bytes:
    """A detokenizer of the simulation's pieces."""

    def __init__(self) -> None:
        self._data = b""
        self._told = 0

    def feed(self, token: int) -> str:
        self._data += PIECES[token]
        text = self._data.decode("utf-8", "ignore")
        new, self._told = text[self._told :], len(text)
        return new

    def flush(self) -> str:
        return ""


def engine(logits: fakes.Logits, **options: object) -> fakes.Engine:
    """Return an engine that speaks the simulation's vocabulary."""
    made = fakes.engine(logits, **options)
    made._detokenizer = Bytes
    made._token_bytes = lambda token: PIECES[token]
    return made


def plan(budget: int, **options: object) -> ThinkingPlan:
    return ThinkingPlan(TAGS, budget, **{"opened": True, **options})  # type: ignore[arg-type]


PLANS = [
    plan(1),
    plan(7),
    plan(24, message=ids_of("d d.")),
    plan(40, minimum=30, rounds=2, waits=(ids_of("\n bee"),)),
    plan(90, soft=0.5),
    plan(150, exit=0.01, answer_prefix=ids_of("a"), loop=0),
    plan(60, opened=False),
    plan(200, loop=2, nudge=ids_of("\n sea.")),
]


def requests() -> list[Request]:
    """Return requests with different budgets, some sampled and penalised."""
    return [
        Request(
            tuple(range(4, 12)) * (1 + index % 3) + (OPENING[index % 2]),
            SamplingParams(
                temperature=[0.0, 1.0][index % 2],
                seed=index,
                max_tokens=300,
                repeat_penalty=1 + 0.2 * (index % 2),
            ),
            frozenset({EOS}),
            thinking,
            id=f"r{index}",
        )
        for index, thinking in enumerate(PLANS)
    ]


OPENING = [(0,), (0, 8)]


def summary(outputs: list[Output]) -> tuple[tuple[int, ...], str, str | None]:
    return fakes.tokens_of(outputs), fakes.text_of(outputs), outputs[-1].finish


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[tuple[int, ...], str, str | None]]:
    """Every request in an engine of its own."""
    found = {}
    for request in requests():
        made = engine(fakes.hashed(VOCAB), reuse=False, num_blocks=256)
        made.submit(request)
        found[request.id] = summary(fakes.drain(made)[request.id])
    return found


@pytest.mark.parametrize("chunk", [1, 3, 512])
@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("num_blocks", [120, 512])
def test_a_batch_of_different_budgets_is_eight_single_runs(alone, chunk, reuse, num_blocks):
    made = engine(fakes.hashed(VOCAB), reuse=reuse, chunk=chunk, num_blocks=num_blocks)
    for request in requests():
        made.submit(request)
    assert {name: summary(outputs) for name, outputs in fakes.drain(made).items()} == alone
    assert made.pool.num_available == made.pool.num_blocks


@pytest.mark.parametrize("index", range(len(PLANS)))
def test_every_computed_token_is_accounted_for(index):
    """forwarded = prompt - cached + sampled - 1 + injected + probes, and the runner has computed no more."""
    request = requests()[index]
    made = engine(fakes.hashed(VOCAB), num_blocks=256)
    made.submit(request)
    last = fakes.drain(made)[request.id][-1]
    report = last.thinking
    assert report is not None
    expected = (
        len(request.prompt) - last.num_cached + last.num_sampled - 1 + report.injected + report.probe_tokens
    )
    assert last.num_forwarded == expected == made.runner.num_tokens


@pytest.mark.parametrize("index", range(len(PLANS)))
def test_the_report_is_what_a_recount_finds(index, alone):
    request = requests()[index]
    made = engine(fakes.hashed(VOCAB), num_blocks=256)
    made.submit(request)
    outputs = fakes.drain(made)[request.id]
    report = outputs[-1].thinking
    assert report is not None
    assert request.thinking is not None
    counted = thinking_tokens(list(fakes.tokens_of(outputs)), opened=request.thinking.opened)
    assert report.tokens == counted <= request.thinking.budget
    assert [o.num_thinking for o in outputs] == sorted(o.num_thinking for o in outputs) or report.discarded


def test_no_limit_reached_means_the_same_reply_as_none():
    script = fakes.scripted({(4, 0): ids_of("a bee.</think>") + ids_of("\n\n sea.") + (EOS,)}, VOCAB)
    with_plan, without = engine(script), engine(script)
    with_plan.submit(Request((4, 0), SamplingParams(temperature=0), frozenset({EOS}), plan(200), id="r"))
    without.submit(Request((4, 0), SamplingParams(temperature=0), frozenset({EOS}), id="r"))
    assert summary(fakes.drain(with_plan)["r"]) == summary(fakes.drain(without)["r"])


@pytest.mark.parametrize(
    "extreme",
    [
        {"min_p": 1.0},
        {"top_k": 1},
        {"repeat_penalty": 100.0},
        {"logit_bias": {CLOSE: -100.0}},
        {"top_p": 0.0},
    ],
)
def test_extreme_sampling_does_not_change_what_is_forced(extreme):
    made = engine(fakes.hashed(VOCAB), num_blocks=256)
    params = SamplingParams(temperature=1.0, seed=1, max_tokens=80, **extreme)
    thinking = plan(20, soft=0.0, message=ids_of("d d."))
    made.submit(Request((4, 0), params, frozenset({EOS}), thinking, id="r"))
    outputs = fakes.drain(made)["r"]
    assert outputs[-1].thinking is not None
    if outputs[-1].thinking.reason == "hard":
        assert "d d.\n</think>\n\n" in fakes.text_of(outputs)
    assert fakes.tokens_of(outputs).count(CLOSE) == 1


def test_what_is_streamed_is_the_reply():
    for request in requests():
        made = engine(fakes.hashed(VOCAB), num_blocks=256)
        made.submit(request)
        outputs = fakes.drain(made)[request.id]
        whole = b"".join(PIECES[token] for token in fakes.tokens_of(outputs) if token != EOS)
        assert fakes.text_of(outputs) == whole.decode("utf-8", "ignore")


def test_an_answer_on_demand():
    made = engine(fakes.scripted({}, VOCAB), num_blocks=256)
    endless = replace(plan(10_000), loop=0)
    made.submit(
        Request((4, 0), SamplingParams(temperature=0, max_tokens=300), frozenset({EOS}), endless, id="r")
    )
    for _ in range(20):
        made.step()
    assert made.scheduler.end_thinking("r")
    assert not made.scheduler.end_thinking("another")
    outputs = fakes.drain(made)["r"]
    assert outputs[-1].thinking is not None
    assert outputs[-1].thinking.reason == "user"


def test_a_cancelled_thought_gives_out_what_it_had_but_no_probe():
    def logits(prefix: tuple[int, ...]) -> torch.Tensor:
        row = torch.zeros(VOCAB)
        row[LETTERS[b"."] if len(prefix) % 9 == 8 else LETTERS[b" bee"]] = 9.0
        return row

    made = engine(logits, num_blocks=256)
    thinking = plan(400, exit=0.9, loop=0, answer_prefix=ids_of("1"))
    made.submit(Request((4, 0), SamplingParams(temperature=0), frozenset({EOS}), thinking, id="r"))
    told: list[int] = []
    sequence = made.scheduler._by_id["r"]
    while not sequence.thinking.num_probed:
        told += [token for output in made.step() for token in output.tokens]
    last = made.abort("r")
    assert last is not None
    assert CLOSE not in [*told, *last.tokens]
    fakes.check(made)


def test_a_stop_text_within_a_thought_ends_nothing():
    """Stop texts are for answers: a thought that holds one goes on, and an answer follows it."""
    script = ids_of("a bee.\n sea</think>") + ids_of("\n\n a bee sea.") + (EOS,)
    made = engine(fakes.scripted({(4, 0): script}, VOCAB))
    params = SamplingParams(temperature=0, stop=(" sea", "bee.\n", "</think>"))
    made.submit(Request((4, 0), params, frozenset({EOS}), plan(200), id="r"))
    outputs = fakes.drain(made)["r"]
    assert fakes.text_of(outputs) == "a bee.\n sea</think>\n\n a bee"
    assert outputs[-1].finish == "stop"


def test_a_stop_text_may_not_begin_in_a_thought():
    script = (*ids_of("a</think>d d"), EOS)
    made = engine(fakes.scripted({(4, 0): script}, VOCAB))
    params = SamplingParams(temperature=0, stop=(">d", "d d"))
    made.submit(Request((4, 0), params, frozenset({EOS}), plan(200), id="r"))
    outputs = fakes.drain(made)["r"]
    assert (fakes.text_of(outputs), outputs[-1].finish) == ("a</think>", "stop")


@pytest.mark.parametrize("length", [29, 30, 31])
@pytest.mark.parametrize("budget", [0, 1])
def test_a_forced_end_beyond_the_context_ends_the_reply(length, budget):
    """A prompt that nearly fills the context, and a thought that must be closed at once."""
    made = engine(fakes.hashed(VOCAB), num_blocks=8, max_context=32)
    prompt = (*range(4, 12), *range(4, 12), *range(4, 12), *range(4, 12))[: length - 1]
    made.submit(Request((*prompt, 0), SamplingParams(temperature=0), frozenset({EOS}), plan(budget), id="r"))
    outputs = fakes.drain(made)["r"]
    assert len(fakes.tokens_of(outputs)) <= 32 - length
    assert outputs[-1].finish in ("length", "stop")
    fakes.check(made)


def test_a_look_ahead_beyond_the_context_is_not_taken():
    def logits(prefix: tuple[int, ...]) -> torch.Tensor:
        row = torch.zeros(VOCAB)
        row[LETTERS[b"."] if len(prefix) % 9 == 8 else LETTERS[b" bee"]] = 9.0
        return row

    made = engine(logits, num_blocks=24, max_context=96)
    thinking = plan(91, exit=0.9, loop=0, soft=0.0, answer_prefix=ids_of("1 1 1 1 1 1"))
    made.submit(Request((4, 0), SamplingParams(temperature=0), frozenset({EOS}), thinking, id="r"))
    outputs = fakes.drain(made)["r"]
    assert outputs[-1].finish == "length"
    fakes.check(made)


@pytest.mark.parametrize(("repeats", "reason"), [(3, "repeat"), (0, "length")])
def test_an_answer_that_goes_in_circles_may_be_ended(repeats, reason):
    def logits(prefix: tuple[int, ...]) -> torch.Tensor:
        row = torch.zeros(VOCAB)
        row[ids_of(" bee sea d,")[len(prefix) % 4]] = 9.0
        return row

    made = engine(logits, num_blocks=256)
    params = SamplingParams(temperature=0, max_tokens=400, repeat_stop=repeats)
    made.submit(Request((4, 5), params, frozenset({EOS}), id="r"))
    outputs = fakes.drain(made)["r"]
    assert outputs[-1].finish == reason
    assert (len(fakes.tokens_of(outputs)) < 200) == (reason == "repeat")


@pytest.mark.parametrize("budget", [0, 1, 24])
@pytest.mark.parametrize("length", range(13, 23))
def test_a_thought_that_is_closed_at_once_is_reported_like_any_other(budget, length):
    """Progress, found tokens and computed ones, however prompt and closing tags fall on the blocks."""
    prompt = (*((4, 5, 6, 7, 8, 9) * 4)[: length - 1], 0)
    made = engine(fakes.hashed(VOCAB), chunk=4, num_blocks=256)
    params = SamplingParams(temperature=0, max_tokens=80)
    for turn in range(2):
        before = made.runner.num_tokens
        made.submit(Request(prompt, params, frozenset({EOS}), plan(budget), id="r"))
        outputs = fakes.drain(made)["r"]
        last, found = outputs[-1], length // 4 * 4 if turn else 0
        assert last.num_cached == found - (budget > 1 and found == length) * 4
        assert outputs[0].num_computed == min(last.num_cached + 4, length)
        report = last.thinking
        assert report is not None
        expected = length - last.num_cached + last.num_sampled - 1 + report.injected + report.probe_tokens
        assert last.num_forwarded == expected == made.runner.num_tokens - before
    assert made.scheduler.stats().cached_tokens == last.num_cached
    assert made.scheduler.stats().prompt_tokens == 2 * length


def test_two_at_once_share_a_prompt_whose_thought_is_closed_at_once():
    made = engine(fakes.hashed(VOCAB), chunk=4, num_blocks=256)
    params = SamplingParams(temperature=0, max_tokens=20)
    for name in ("first", "second"):
        made.submit(Request((4, 5, 6, 7, 8, 9) * 3 + (0,), params, frozenset({EOS}), plan(0), id=name))
    outputs = fakes.drain(made)
    assert [outputs[name][-1].num_cached for name in ("first", "second")] == [0, 16]
    assert fakes.tokens_of(outputs["first"]) == fakes.tokens_of(outputs["second"])


def test_what_is_computed_again_was_not_found():
    """Sequences that lose their blocks, amid their prompts too, report what they found at first."""
    made = engine(fakes.hashed(VOCAB), num_blocks=14, chunk=4, max_context=48)
    params = SamplingParams(temperature=0, max_tokens=24)
    for index in range(4):
        made.submit(Request((4 + index, *[5] * 14, 0), params, frozenset({EOS}), plan(index), id=f"r{index}"))
    outputs = fakes.drain(made)
    stats = made.scheduler.stats()
    assert stats.preemptions
    for found in outputs.values():
        assert found[-1].num_cached == 0
        done = [output.num_computed for output in found]
        assert done == sorted(done)
    assert (stats.cached_tokens, stats.prompt_tokens) == (0, 4 * 16)
