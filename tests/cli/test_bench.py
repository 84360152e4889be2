"""`llm bench`: llama-bench's tests, columns and field names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from mull.cli import bench
from mull.cli.main import run_command
from mull.errors import InvalidRequest


class Timed:
    """A model whose runs take scripted times; notes what it was asked."""

    threads = 3
    backend = "CPU"

    def __init__(self, seconds: list[float] | None = None) -> None:
        self.seconds = seconds or []
        self.runs: list[tuple[int, int, int]] = []
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

    def bench(self, prompt: int, generate: int, depth: int) -> float:
        self.runs.append((prompt, generate, depth))
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


def test_the_processor_s_name(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("vendor_id : x\nmodel name\t: Fast One\n")
    assert bench.cpu_name(tmp_path / "cpuinfo") == "Fast One"
    assert bench.cpu_name(tmp_path / "absent")
