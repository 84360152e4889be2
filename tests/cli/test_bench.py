"""`llm bench`: llama-bench's tests, columns and field names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from mull.cli import bench
from mull.cli.main import run_command
from mull.errors import InvalidRequest, NotSupported, OutOfMemory
from mull.kernels.cpu.native import instruction_sets
from mull.kernels.cpu.program import Attention
from mull.llm import LLM
from mull.models.batch import Span
from mull.models.cache import CacheTypes, NativeCache
from mull.models.checkpoint.open import open_checkpoint
from mull.models.load import Placement, load_model
from mull.runtime import memory
from mull.runtime.load_options import LoadOptions

needs_native = pytest.mark.skipif(not instruction_sets(), reason="no native kernels on this machine")


class Timed:
    """A model whose runs take scripted times; notes what it was asked."""

    threads = 3
    backend = "CPU"

    def __init__(self, seconds: list[float] | None = None) -> None:
        self.seconds = seconds or []
        self.runs: list[tuple[int, int, int]] = []
        self.flashes: list[bool] = []
        self.attention_bytes: int | None = None
        self.checkpoint = SimpleNamespace(
            architecture="llama",
            num_parameters=1_235_814_400,
            nbytes=800_000_000,
            path=Path("m.gguf"),
            metadata={"general.file_type": 15},
        )

    def __enter__(self) -> Timed:
        return self

    def __exit__(self, *reason: object) -> None:
        pass

    def bench(self, prompt: int, generate: int, depth: int, *, flash: bool = True) -> float:
        self.runs.append((prompt, generate, depth))
        self.flashes.append(flash)
        self.attention_bytes = 4096 if flash else 3 << 20
        return self.seconds[(len(self.runs) - 1) % len(self.seconds)] if self.seconds else 0.5


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Timed:
    """Return the model that `llm bench` will open."""
    model = Timed()
    monkeypatch.setattr(bench, "open_llm", lambda *args, **options: model)
    return model


def test_each_test_warms_up_and_repeats(llm: Timed, capsys: pytest.CaptureFixture[str]) -> None:
    bench.command("m", ["64,32"], ["16"], ["0", "8"], repetitions=2)
    assert llm.runs == [
        *[(64, 0, 0)] * 3,
        *[(32, 0, 0)] * 3,
        (0, 1, 0),
        *[(0, 16, 0)] * 2,
        (64, 0, 0),
        *[(64, 0, 8)] * 2,
        (32, 0, 0),
        *[(32, 0, 8)] * 2,
        (0, 1, 0),
        *[(0, 16, 8)] * 2,
    ]


def test_the_table_has_llama_bench_s_columns(llm: Timed, capsys: pytest.CaptureFixture[str]) -> None:
    llm.seconds = [9.0, 0.5, 1.0]
    bench.command("m", ["512"], ["0"], ["4096"], repetitions=2)
    header, rule, row = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "model", "size", "params", "backend", "threads", "test", "t/s",
    ]  # fmt: skip
    assert re.fullmatch(r"\| -{29}- \|( -+: \|){2} -{9}- \|( -+: \|){3}", rule)
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "llama 1.2B Q4_K_M", "762.94 MiB", "1.24 B", "CPU", "3", "pp512 @ d4096", "768.00 ± 362.04",
    ]  # fmt: skip
    assert len(header) == len(rule) == len(row)


def test_long_cells_keep_the_columns(llm: Timed, capsys: pytest.CaptureFixture[str]) -> None:
    llm.backend = "cpu bfloat16 (torch)"
    bench.command("m", ["512"], ["0"])
    header, rule, row = capsys.readouterr().out.splitlines()
    assert len(header) == len(rule) == len(row)
    assert header.index("| threads") == row.index("|       3")


def test_json_has_llama_bench_s_fields(llm: Timed, capsys: pytest.CaptureFixture[str]) -> None:
    llm.seconds = [9.0, 2.0, 4.0]
    bench.command("m", ["0"], ["8"], repetitions=2, as_json=True)
    (result,) = json.loads(capsys.readouterr().out)
    assert result["samples_ns"] == [2_000_000_000, 4_000_000_000]
    assert result["samples_ts"] == [4.0, 2.0]
    assert (result["avg_ns"], result["stddev_ns"]) == (3_000_000_000, 1_414_213_562)
    assert result["avg_ts"] == pytest.approx(3.0)
    assert result["stddev_ts"] == pytest.approx(2**0.5)
    assert (result["n_prompt"], result["n_gen"], result["n_depth"], result["n_threads"]) == (0, 8, 0, 3)
    assert (result["model_type"], result["model_size"]) == ("llama 1.2B Q4_K_M", 800_000_000)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", result["test_time"])


def test_defaults_are_llama_bench_s(llm: Timed, capsys: pytest.CaptureFixture[str]) -> None:
    bench.command("m", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [(one["n_prompt"], one["n_gen"], len(one["samples_ns"])) for one in found] == [
        (512, 0, 5),
        (0, 128, 5),
    ]


def test_the_command_line(llm: Timed, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", "m", "-p", "64,32", "-p", "8", "-n", "0", "-r", "1", "--json"]) == 0
    assert [one["n_prompt"] for one in json.loads(capsys.readouterr().out)] == [64, 32, 8]
    assert run_command(["bench", "m", "-p", "0", "-n", "0"]) == 1
    assert "nothing to measure" in capsys.readouterr().err


def test_the_context_holds_the_longest_test(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def open_llm(*given: object, num_ctx: int, quiet: bool) -> Timed:
        asked.append(num_ctx)
        return Timed()

    monkeypatch.setattr(bench, "open_llm", open_llm)
    bench.command("m", ["100"], ["300"], ["0,1000"], repetitions=1, as_json=True)
    assert asked == [1300]


@pytest.mark.parametrize(
    ("prompt", "generated"), [("0", "0"), ("a", "1"), ("", "1"), ("-1", "1"), ("1,,2", "1")]
)
def test_senseless_numbers(llm: Timed, prompt: str, generated: str) -> None:
    with pytest.raises(InvalidRequest):
        bench.command("m", [prompt], [generated])
    assert not llm.runs


def test_both_attentions_of_a_test_stand_side_by_side(llm: Timed, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", "m", "-p", "8,4", "-n", "0", "-r", "1", "--flash", "on,off"]) == 0
    header, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()
    )
    assert header[5:] == ["fa", "test", "t/s", "attention memory"]
    assert [(row[5], row[6], row[8]) for row in rows] == [
        ("1", "pp8", "4.00 KiB"), ("0", "pp8", "3.00 MiB"), ("1", "pp4", "4.00 KiB"), ("0", "pp4", "3.00 MiB"),
    ]  # fmt: skip
    assert llm.flashes == [True, True, False, False] * 2


def test_json_tells_the_attention(llm: Timed, capsys: pytest.CaptureFixture[str]) -> None:
    bench.command("m", ["8"], ["0"], repetitions=1, flash=["off", "on"], as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [(one["flash"], one["attention_bytes"]) for one in found] == [(False, 3 << 20), (True, 4096)]


@pytest.mark.parametrize("value", ["", "1", "On", "on,", "on off", "off,maybe"])
def test_senseless_attentions(llm: Timed, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", "m", "--flash", value]) == 1
    assert "--flash takes on, off or on,off" in capsys.readouterr().err
    assert not llm.runs


@needs_native
@pytest.mark.parametrize("isa", instruction_sets(), ids=lambda isa: isa.name)
@pytest.mark.parametrize("name", ["gemma2", "qwen3"])
def test_plain_attention_gives_the_same_logits(name: str, isa, tmp_path: Path) -> None:
    tiny.save(name, tmp_path)
    ids = torch.randint(3, tiny.VOCAB, (230,), generator=torch.Generator().manual_seed(1)).tolist()
    blocks = [(7 * i + 3) % 64 for i in range(32)]
    with open_checkpoint(tmp_path) as checkpoint:
        model = load_model(checkpoint, Placement(torch.device("cpu"), torch.float32, isa=isa), 256)

        def run(flash: bool) -> torch.Tensor:
            cache = NativeCache(model.cache_spec(), 64, CacheTypes("f32", "f32"), isa)
            # Two sequences at once, of which one goes on by a single token; then a long one alone.
            steps = [
                [Span(ids[:101], 0, blocks[:16], 101), Span(ids[:37], 0, blocks[16:], 37)],
                [Span(ids[101:102], 101, blocks[:16], 1), Span(ids[37:200], 37, blocks[16:], 163)],
                [Span(ids[102:], 102, blocks[:16], 128)],
            ]
            with torch.inference_mode():
                return torch.cat(
                    [
                        model.step(spans, cache, way=Attention.FAST if flash else Attention.PLAIN)
                        for spans in steps
                    ]
                )

        expected = run(flash=True)
        assert expected.std() > 0.1
        assert model.program is not None
        model.program.attention_bytes()
        torch.testing.assert_close(run(flash=False), expected, atol=1e-4, rtol=1e-4)
        # Whole rows of 64 keys: 163 over 200 keys and 1 over 102, of four heads.
        assert model.program.attention_bytes() == 4 * 4 * (163 * 256 + 1 * 128)
        assert torch.equal(run(flash=True), expected)


@needs_native
@pytest.mark.parametrize(("cache_type", "median", "spread"), [("f32", 1e-4, 0.01), ("f16", 0.03, 0.02)])
def test_plain_attention_of_the_pocket_model(cache_type: str, median: float, spread: float) -> None:
    """With a cache in F32 both work in float32; else tiled attention takes bfloat16 products where there are such."""
    options = LoadOptions(num_ctx=512, cache_type_k=cache_type, cache_type_v=cache_type)
    with LLM.open("pocket", options) as llm:
        ids = [7 * i % 250 for i in range(300)]
        model, cache = llm._model, llm._alone._cache(300)
        blocks = list(range(cache.num_blocks))
        with torch.inference_mode():
            flash, plain = (
                model.step([Span(ids, 0, blocks, 300)], cache, way=way)
                for way in (Attention.FAST, Attention.PLAIN)
            )
        # Products round activations to 8 bits, so that a difference in the last place now and then grows.
        off = (plain - flash).abs()
        assert off.median() < median
        assert off.norm() < spread * flash.norm()
        assert (plain.argmax(1) == flash.argmax(1)).float().mean() > (1 - spread)


@needs_native
def test_what_plain_attention_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    with LLM.open("pocket", LoadOptions(num_ctx=512)) as llm:
        assert llm.bench(256, 0, 0) > 0
        flash = llm.attention_bytes
        assert llm.bench(256, 0, 200, flash=False) > 0
        assert flash is not None
        assert llm.attention_bytes == 4 * llm.config.num_heads * 256 * 512 > 10 * flash
        assert llm.bench(256, 0, 200) > 0
        assert llm.attention_bytes == flash
        monkeypatch.setattr("mull.runtime.alone.available_memory", lambda device: memory.RESERVE)
        assert llm.bench(256, 0, 200, flash=False) > 0, "it has had the memory already"
        with pytest.raises(OutOfMemory, match="plain attention over 512 tokens needs") as caught:
            llm.bench(512, 0, 0, flash=False)
        assert "--flash on" in str(caught.value.hint)


def test_torch_has_no_plain_attention() -> None:
    with LLM.open("pocket", LoadOptions(num_ctx=64, cpu="none")) as llm:
        with pytest.raises(NotSupported, match="native CPU kernels only"):
            llm.bench(8, 0, 0, flash=False)
        assert llm.bench(8, 0, 0) > 0
        assert llm.attention_bytes is None


def test_the_processor_s_name(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("vendor_id : x\nmodel name\t: Fast One\n")
    assert bench.cpu_name(tmp_path / "cpuinfo") == "Fast One"
    assert bench.cpu_name(tmp_path / "absent")
