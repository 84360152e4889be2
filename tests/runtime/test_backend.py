"""What computes a model: instruction sets, types of the cache, and what each of them costs in exactness."""

from __future__ import annotations

import os
import random
import shutil

import pytest
import tiny
import torch
from mull.chat.request import ChatRequest
from mull.errors import CorruptFile, InvalidRequest, NotSupported
from mull.kernels.cpu import native
from mull.llm import LLM
from mull.registry.bundled import POCKET
from mull.runtime.backend import CACHE_TYPES
from mull.runtime.load_options import LoadOptions
from mull.settings import Settings

SETS = native.instruction_sets()
needs_native = pytest.mark.skipif(not SETS, reason="no native kernels on this machine")
each_set = pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)


def some_text(llm):
    """Return a few problems as pocket has them, some with their solutions."""
    rng = random.Random(3)
    lines = [f"What is {rng.randrange(500)} + {rng.randrange(500)}?" for _ in range(12)]
    return llm.tokenizer.encode("\n".join(lines))


def log_likelihood(llm, ids):
    """Return the mean of the log probabilities of all tokens but the first, float64."""
    logits = llm.logits(ids)[:-1].double().log_softmax(-1)
    return float(logits.gather(1, torch.tensor(ids[1:])[:, None]).mean())


@pytest.fixture(scope="module")
def exact():
    with LLM.open("pocket", LoadOptions(dtype="f32")) as llm:
        ids = some_text(llm)
        yield ids, llm.logits(ids), log_likelihood(llm, ids)


@needs_native
@each_set
def test_perplexity_is_the_reference_paths(isa, exact):
    ids, _, expected = exact
    with LLM.open("pocket", LoadOptions(cpu=isa.name)) as llm:
        assert isa.name in llm.backend
        assert log_likelihood(llm, ids) == pytest.approx(expected, rel=1e-3)


@needs_native
@each_set
def test_greedy_answers_are_the_reference_paths(isa):
    answers = []
    for options in (LoadOptions(dtype="f32"), LoadOptions(cpu=isa.name)):
        with LLM.open("pocket", options) as llm:
            request = ChatRequest(raw="What is 47 + 385?", options={"temperature": 0, "num_predict": 40})
            answers.append("".join(getattr(event, "text", "") for event in llm.chat(request)))
    assert answers[0] == answers[1]


@needs_native
@pytest.mark.parametrize("keys", native.CACHE_TYPES)
@pytest.mark.parametrize("values", ["f16", "q8_0", "q4_0"])
def test_caches_of_fewer_bits_stay_near(keys, values, exact):
    ids, expected, _ = exact
    with LLM.open("pocket", LoadOptions(cache_type_k=keys, cache_type_v=values)) as llm:
        types = keys if keys == values else f"{keys}/{values}"
        assert f"{types} cache" in llm.backend
        off = (llm.logits(ids) - expected).norm() / expected.norm()
    assert off < (0.25 if "q4_0" in (keys, values) else 0.03)


@needs_native
def test_a_smaller_cache_takes_less_memory():
    taken = {}
    for name in ("f16", "q8_0", "q4_0"):
        with LLM.open("pocket", LoadOptions(cache_type_k=name, cache_type_v=name)) as llm:
            taken[name] = llm.plan.cache_bytes
    assert taken["q8_0"] == pytest.approx(taken["f16"] * 8.5 / 16, rel=1e-3)
    assert taken["q4_0"] == pytest.approx(taken["f16"] * 4.5 / 16, rel=1e-3)


@needs_native
def test_float32_files_are_computed_and_cached_in_float32(tmp_path):
    path = tiny.write_gguf(tiny.build("qwen3"), "qwen3", tmp_path / "tiny.gguf")
    with LLM.open(str(path)) as fast, LLM.open(str(path), LoadOptions(cpu="none")) as slow:
        assert "f32 cache" in fast.backend
        torch.testing.assert_close(fast.logits([5, 6, 7, 8]), slow.logits([5, 6, 7, 8]), atol=1e-4, rtol=1e-4)


def test_torch_caches_floats_only():
    with LLM.open("pocket", LoadOptions(cpu="none", cache_type_k="f16", cache_type_v="f16")) as llm:
        assert "torch, f16 cache" in llm.backend
    with pytest.raises(NotSupported, match="needs the native CPU kernels"):
        LLM.open("pocket", LoadOptions(cpu="none", cache_type_k="q8_0"))


def test_an_unknown_type_or_set_is_refused():
    with pytest.raises(InvalidRequest, match="unknown cache type 'q9'") as caught:
        LLM.open("pocket", LoadOptions(cache_type_v="q9"))
    assert caught.value.field == "cache_type_v"
    assert all(name in str(caught.value.hint) for name in CACHE_TYPES)
    with pytest.raises(InvalidRequest, match="no kernels for 'z80'"):
        LLM.open("pocket", LoadOptions(cpu="z80"))


@needs_native
def test_the_environment_chooses_the_set(tmp_path):
    settings = Settings(
        models_dir=tmp_path, state_dir=tmp_path, cache_dir=tmp_path, color=False, cpu=SETS[-1].name
    )
    with LLM.open("pocket", settings=settings) as llm:
        assert SETS[-1].name in llm.backend


@needs_native
def test_a_file_cut_short_in_use_is_an_error_and_no_crash(tmp_path):
    path = tmp_path / "copy.gguf"
    shutil.copyfile(POCKET.path, path)
    with LLM.open(str(path)) as llm:
        ids = some_text(llm)
        llm.logits(ids)
        os.truncate(path, 4096)
        with pytest.raises(CorruptFile, match="cut short while it was in use"):
            llm.logits(ids)
