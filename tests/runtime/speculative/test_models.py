"""Tests of speculation with real models: the same bytes with and without it, and draft models."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done
from mull.errors import InvalidRequest, NotSupported
from mull.kernels.cpu import native
from mull.llm import LLM
from mull.models.batch import Span
from mull.models.checkpoint.open import open_checkpoint
from mull.runtime.backend import Backend
from mull.runtime.grammar.constraint import Constraint
from mull.runtime.load_options import LoadOptions, parse_speculate

QUESTION = "What is 347 + 685?"
needs_native = pytest.mark.skipif(not native.instruction_sets(), reason="the native kernels are not built")


def ask(llm: LLM, text: str = QUESTION, form: Constraint | None = None, **options: object) -> Done:
    """Return the end of a reply, which holds all its tokens."""
    *_, done = llm.chat(ChatRequest((Message("user", text),), options={"seed": 7, **options}, format=form))
    assert isinstance(done, Done)
    return done


def same(done: Done) -> tuple[object, ...]:
    """Return what must not depend on speculation."""
    report, usage = done.thinking.report, done.usage
    kept = None if report is None else (report.tokens, report.reason, report.injected, report.discarded)
    # Without kernels torch computes, which rounds by the batch.
    logprobs = done.logprobs if native.instruction_sets() else len(done.logprobs or ())
    return done.token_ids, done.reason, kept, done.conformity, logprobs, usage.completion_tokens


@pytest.fixture(scope="module", params=[None, 48], ids=["wide", "narrow"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[LLM, LLM]]:
    """The demo model without and with guesses, its context wide or narrow."""
    plain = LoadOptions(num_ctx=request.param, speculate="off")
    guessing = LoadOptions(num_ctx=request.param, speculate="6")
    with LLM.open("pocket", plain) as first, LLM.open("pocket", guessing) as second:
        yield first, second


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        {"temperature": 0.9},
        {"temperature": 1.3, "top_p": 1.0, "top_k": 0, "repeat_penalty": 1.1},
        {"temperature": 0, "logprobs": 2},
        {"think": 5, "temperature": 0},
        {"think": "off"},
        {"think_min": 12, "think_rounds": 3},
        {"think_exit": "confidence:0.1", "think_reserve": 0},
        {"num_predict": 9},
        {"stop": ["0"]},
        {"repeat_stop": 2, "ignore_eos": True, "num_predict": 120, "think": "off"},
    ],
    ids=str,
)
def test_replies_are_the_same(both: tuple[LLM, LLM], options: dict[str, object]) -> None:
    for text in (QUESTION, "12 + 12 + 12 + 12 = ?"):
        expected, found = (ask(llm, text, **options) for llm in both)
        assert same(found) == same(expected)
        assert expected.usage.drafted_tokens == 0


def test_replies_within_a_format_are_the_same(both: tuple[LLM, LLM]) -> None:
    for pattern in ("(12,){12}", "[0-9]{4}(;[0-9]{4}){4}"):
        form = Constraint("regex", pattern)
        expected, found = (ask(llm, QUESTION, form, think="off", temperature=0.8) for llm in both)
        assert same(found) == same(expected)


def test_something_was_guessed_above(both: tuple[LLM, LLM]) -> None:
    usage = ask(both[1], ignore_eos=True, num_predict=25, think="off", temperature=0).usage
    assert 0 < usage.accepted_tokens <= usage.drafted_tokens


@needs_native
@pytest.mark.parametrize("cache", ["f16", "f32"])
@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_rows_do_not_depend_on_how_many_there_are(tmp_path: Path, kind: str, cache: str) -> None:
    tiny.save("llama", tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 1024}))
    quantize = None if kind == "f32" else kind
    isa = native.instruction_sets()[0]
    options = LoadOptions(
        num_ctx=1000, threads=3, cpu=isa.name, cache_type_k=cache, cache_type_v=cache, quantize=quantize
    )
    with open_checkpoint(tmp_path) as checkpoint:
        backend = Backend(checkpoint, options)
        model = backend.load(None)
        caches = [backend.new_cache(model, 1000) for _ in range(2)]
        blocks = list(range(caches[0].num_blocks))
        rng = random.Random(0)
        ids = rng.choices(range(model.config.vocab_size), k=960)
        start = 900
        with torch.inference_mode():
            for each in caches:
                for at in range(0, start, 200):
                    model.step([Span(ids[at : at + 200], at, blocks, 1)], each)
            one = [
                model.step([Span(ids[at : at + 1], at, blocks, 1)], caches[0])
                for at in range(start, len(ids))
            ]
            at, several = start, []
            while at < len(ids):
                count = min(rng.randint(1, 16), len(ids) - at)
                several.append(model.step([Span(ids[at : at + count], at, blocks, count)], caches[1]))
                at += count
    assert torch.equal(torch.cat(one), torch.cat(several))


def test_a_draft_model_guesses_and_changes_nothing() -> None:
    with LLM.open("pocket", LoadOptions(speculate="off")) as plain:
        expected = [ask(plain, temperature=t) for t in (0, 0.8)]
    with LLM.open("pocket", LoadOptions(draft="pocket", speculate="4")) as llm:
        found = [ask(llm, temperature=t) for t in (0, 0.8)]
    assert [same(done) for done in found] == [same(done) for done in expected]
    usage = found[0].usage
    assert usage.accepted_tokens >= usage.completion_tokens // 4


def test_a_draft_model_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tiny.write_gguf(tiny.build("qwen3"), "qwen3", tmp_path / "m.gguf")
    with pytest.raises(NotSupported, match="the draft model has 128 tokens and the model 512") as caught:
        LLM.open("pocket", LoadOptions(draft=str(path)))
    assert caught.value.field == "draft"


def test_ways_to_speculate_are_read() -> None:
    assert [parse_speculate(text) for text in ("auto", "off", "1", "15")] == [None, 0, 1, 15]
    for text in ("16", "-1", "", "on", "1.5", "٣"):
        with pytest.raises(InvalidRequest) as caught:
            parse_speculate(text)
        assert caught.value.field == "speculate"
