"""The estimate of what a model takes, against what it takes; and the rules that it shares with loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from gguf_files import write_gguf
from mull.errors import InvalidRequest, MissingTensor, OutOfMemory
from mull.kernels.cpu import native
from mull.llm import LLM
from mull.models.checkpoint.open import open_checkpoint
from mull.models.load import model_config
from mull.models.retyped import Siblings
from mull.registry.bundled import POCKET
from mull.runtime.backend import Backend
from mull.runtime.fit import Fit, estimate, with_context
from mull.runtime.load_options import LoadOptions
from mull.runtime.machine import Machine, bandwidth, process_bytes

MB = 1 << 20
ROOMY = Machine(free=8 << 30, total=16 << 30, process=200 * MB, bandwidth=10e9)
needs_native = pytest.mark.skipif(native.BEST is None, reason="no native kernels on this machine")


def of_pocket(machine: Machine = ROOMY, **options: object) -> Fit:
    with open_checkpoint(POCKET.path) as checkpoint:
        return estimate(checkpoint, LoadOptions(**options), machine)  # type: ignore[arg-type]


@needs_native
@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_0"])
def test_weights_and_cache_are_what_a_loaded_model_has(kind: str) -> None:
    options = LoadOptions(num_ctx=100, cache_type_k=kind, cache_type_v=kind)
    fit = of_pocket(num_ctx=100, cache_type_k=kind, cache_type_v=kind)
    with LLM.open("pocket", options) as llm:
        cache = llm._backend.new_cache(llm._model, 100)
        assert fit.caches[0].asked.cache_bytes == cache.num_blocks * cache.block_bytes
        assert fit.weights.nbytes == pytest.approx(llm.plan.weight_bytes, rel=0.02)
        packed = [linear.packed for linears in llm._model.matrices.values() for linear in linears]
        assert all(packed)
        taken = sum(native.packed_bytes(m.isa, m.dtype, *m.shape) or 0 for m in packed if m is not None)
        assert fit.weights.nbytes == pytest.approx(taken, rel=0.03)


@pytest.mark.parametrize("cpu", [None, "none"])
@pytest.mark.parametrize("free", [250 * MB, 302 * MB, 304 * MB, 310 * MB, 4 << 30])
def test_what_fits_is_what_loading_accepts(
    free: int, cpu: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = of_pocket(Machine(free=free, total=free + 200 * MB, process=200 * MB), cpu=cpu)
    largest = fit.caches[0].largest_now
    monkeypatch.setattr("mull.runtime.backend.available_memory", lambda device: free)
    with open_checkpoint(POCKET.path) as checkpoint:
        if largest:
            plan = Backend(checkpoint, LoadOptions(num_ctx=largest, cpu=cpu)).plan
            assert plan.hold == fit.hold_now
        if largest < fit.own_context:
            with pytest.raises(OutOfMemory):
                Backend(checkpoint, LoadOptions(num_ctx=fit.own_context, cpu=cpu))
        else:
            assert Backend(checkpoint, LoadOptions(cpu=cpu)).plan.context_length == fit.context


def test_totals_are_sums_and_grow_with_the_context() -> None:
    fit = of_pocket(num_ctx=64)
    size = fit.caches[0].asked
    parts = fit.process + fit.tokenizer + fit.buffers + fit.weights.nbytes + fit.weights.mapped
    assert size.peak_bytes == parts + size.cache_bytes
    assert fit.caches[0].own.peak_bytes - size.peak_bytes == fit.caches[0].own.cache_bytes - size.cache_bytes
    assert size.fits_now
    assert size.fits
    assert fit.fits


def test_no_memory_no_fit() -> None:
    fit = of_pocket(Machine(free=1 * MB, total=2 * MB, process=1 * MB))
    assert not fit.fits
    assert not fit.hold
    assert all(cache.largest == cache.largest_now == 0 for cache in fit.caches)
    assert not fit.caches[0].asked.fits


def test_a_vocabulary_alone_is_no_model(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "vocabulary.gguf", {"llama.context_length": 64})
    with open_checkpoint(path) as checkpoint, pytest.raises(MissingTensor, match="only a vocabulary"):
        estimate(checkpoint, LoadOptions(), ROOMY)


def test_what_is_busy_now_fits_later() -> None:
    fit = of_pocket(Machine(free=300 * MB, total=8 << 30, process=200 * MB))
    assert fit.hold
    assert fit.caches[0].asked.fits
    assert not fit.caches[0].asked.fits_now
    assert fit.caches[0].largest_now < fit.caches[0].largest == fit.own_context


def test_a_context_beyond_the_models_own_is_refused_as_loading_does() -> None:
    with pytest.raises(InvalidRequest, match="the model's is"):
        of_pocket(num_ctx=1 << 20)


def test_tokens_per_second_are_the_bandwidth_over_what_is_read() -> None:
    fit = of_pocket(num_ctx=64)
    assert fit.tokens_per_second is not None
    first, last = fit.tokens_per_second
    assert first == pytest.approx(10e9 / fit.weights.active)
    assert last == pytest.approx(10e9 / (fit.weights.active + fit.caches[0].asked.cache_bytes))
    assert of_pocket(Machine(8 << 30, 8 << 30, 0)).tokens_per_second is None


def test_a_mixture_reads_the_chosen_experts_only(tmp_path: Path) -> None:
    tiny.save("qwen3moe", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        fit = estimate(checkpoint, LoadOptions(), ROOMY)
        config = model_config(checkpoint)
        experts = sum(info.num_weights for name, info in checkpoint.infos.items() if ".experts." in name)
    assert 0 < config.num_experts_per_token < config.num_experts
    idle = 1 - config.num_experts_per_token / config.num_experts
    itemsize = 4  # the folder's float32 is computed with as it is
    table = config.vocab_size * config.hidden_size
    all_read = checkpoint.num_parameters - table
    assert fit.weights.active == pytest.approx(itemsize * (all_read - idle * experts), rel=0.05)


def test_a_modelfiles_context_holds_where_none_is_asked_for() -> None:
    assert with_context(LoadOptions(), 128).num_ctx == 128
    assert with_context(LoadOptions(num_ctx=64), 128).num_ctx == 64
    assert with_context(LoadOptions(), "128").num_ctx is None


def test_siblings_are_described_by_name_and_by_size(tmp_path: Path) -> None:
    path = tiny.write_gguf(tiny.build("llama"), "llama", tmp_path / "f32.gguf")
    with open_checkpoint(path) as checkpoint:
        siblings = Siblings(checkpoint, model_config(checkpoint))
        half = siblings.like("F16", checkpoint.nbytes // 2)
        assert half.nbytes == pytest.approx(checkpoint.nbytes / 2, rel=0.2)
        assert siblings.like("NO-SUCH", checkpoint.nbytes).nbytes == checkpoint.nbytes
        assert siblings.like("F16", checkpoint.nbytes).nbytes == checkpoint.nbytes  # its name does not tell
        assert list(half.infos)
        assert set(half.infos) == set(checkpoint.infos)


def test_bandwidth_is_measured_once_and_kept(tmp_path: Path) -> None:
    file, measured = tmp_path / "state" / "bandwidth.json", []

    def measure() -> float:
        measured.append(1)
        return 5e9 * len(measured)

    def get(backend: str = "a", *, renew: bool = False) -> float:
        return bandwidth(file, backend, 2, measure, renew=renew)

    assert [get(), get(), get("b"), get(renew=True), get(), get("b")] == [5e9, 5e9, 10e9, 15e9, 15e9, 10e9]
    file.write_text("[]")
    assert get() == 20e9
    file.write_text('{"a, 2 threads": -1}')
    assert get() == 25e9


def test_a_process_takes_something() -> None:
    assert process_bytes() > 10 * MB
