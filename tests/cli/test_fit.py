"""`llm fit`: the same for a header fetched by ranges as for the whole file, the report's shapes, and its errors."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from fake_hub import FakeHub, Fault, serving
from gguf import GGUFValueType as Kind
from gguf_files import Typed, write_gguf
from mull.cli.fit_source import open_source
from mull.cli.main import run_command
from mull.kernels.cpu import native
from mull.models.bnb_folder import save_folder
from mull.models.checkpoint import heads
from mull.models.checkpoint.open import open_checkpoint
from mull.registry.bundled import POCKET
from mull.registry.store import Store
from mull.runtime.fit import estimate
from mull.runtime.load_options import LoadOptions
from mull.runtime.machine import Machine

WEIGHTS = POCKET.path.read_bytes()
MACHINE = Machine(free=4 << 30, total=8 << 30, process=200 << 20, bandwidth=10e9)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub whose files are asked for in small pieces; temporary folders lie where the tests can look."""
    monkeypatch.setattr(heads, "FIRST", 4096)
    monkeypatch.setattr("mull.runtime.machine.measure_reading", lambda *args: 10e9)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for key in (
        "HF_TOKEN",
        "HF_HOME",
        "HF_HUB_CACHE",
        "OLLAMA_MODELS",
        "MULL_ENDPOINT_TOKEN",
        "XDG_STATE_HOME",
    ):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with serving(FakeHub()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub
    assert not list((tmp_path / "temporary").glob("mull-*")), "something was left behind"


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = run_command(["fit", *args])
    out, err = capsys.readouterr()
    return code, out, err


def split(folder: Path) -> list[Path]:
    """Write a tiny model in two parts."""
    whole = tiny.write_gguf(tiny.build("llama"), "llama", folder / "whole.gguf")
    with open_checkpoint(whole) as checkpoint:
        metadata = {
            key: value
            for key, value in checkpoint.metadata.items()
            if key.startswith("llama.") and not isinstance(value, list)
        }
        tensors = [(name, tensor.parts[0].numpy().copy()) for name, tensor in checkpoint.tensors()]
    middle, paths = len(tensors) // 2, []
    for number, part in enumerate((tensors[:middle], tensors[middle:])):
        said = {
            **(metadata if number == 0 else {}),
            "split.no": Typed(number, Kind.UINT16),
            "split.count": Typed(2, Kind.UINT16),
            "split.tensors.count": Typed(len(tensors), Kind.INT32),
        }
        paths.append(write_gguf(folder / f"tiny-0000{number + 1}-of-00002.gguf", said, dict(part)))
    whole.unlink()
    return paths


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["gguf", "split", "safetensors", "shards", "nf4"])
@pytest.mark.parametrize("cpu", [None, "none"])
def test_a_fetched_header_gives_the_estimate_of_the_whole_file(
    kind: str, cpu: str | None, hub: FakeHub, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if kind == "gguf":
        (folder / "pocket-Q8_0.gguf").write_bytes(WEIGHTS)
    elif kind == "split":
        split(folder)
    elif kind == "nf4":
        pytest.importorskip("bitsandbytes")
        tiny.save("llama", tmp_path / "as trained")
        with open_checkpoint(tmp_path / "as trained") as checkpoint:
            folder.rmdir()
            save_folder(checkpoint, folder, "nf4")
    else:
        tiny.save("llama", folder, max_shard_size="50KB" if kind == "shards" else "1GB")
        assert (len(list(folder.glob("*.safetensors"))) > 1) == (kind == "shards")
    hub.add("u/m", **files(folder), **{"README.md": b"text", "tokenizer.json": b"{" * 300000})
    options = LoadOptions(num_ctx=64, cpu=cpu)
    with open_checkpoint(folder) as checkpoint:
        expected = estimate(checkpoint, options, MACHINE)
        infos = dict(checkpoint.infos)
    with open_source("u/m") as source:
        assert source.where is None
        assert estimate(source.checkpoint, options, MACHINE) == expected
        assert dict(source.checkpoint.infos) == infos
    whole = sum(path.stat().st_size for path in folder.iterdir())
    assert hub.sent() < whole + 4096 * 2
    assert not any("tokenizer.json" in asked.path or "README" in asked.path for asked in hub.asked)


def test_a_part_of_the_file_is_fetched(hub: FakeHub, store: Store) -> None:
    hub.add("u/m", **{"m-Q8_0.gguf": WEIGHTS})
    with open_source("u/m:Q8_0"):
        pass
    ranges = [asked.range for asked in hub.asked if asked.range]
    assert ranges[0] == (0, 4096)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    assert hub.sent() < len(WEIGHTS) / 4


def test_a_server_without_ranges_and_one_that_breaks_off(hub: FakeHub, store: Store) -> None:
    hub.add("u/m", **{"m-Q8_0.gguf": WEIGHTS})
    hub.faults.extend([Fault(status=503), Fault(cut=100), Fault(whole=True)])
    with open_source("u/m:Q8_0") as source, open_checkpoint(POCKET.path) as checkpoint:
        assert dict(source.checkpoint.infos) == dict(checkpoint.infos)


def test_a_repository_is_told_as_a_whole_and_marks_what_a_pull_takes(
    hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("u/many", **{"m-Q8_0.gguf": WEIGHTS, "m-F16.gguf": WEIGHTS + bytes(len(WEIGHTS))})
    code, out, err = run(capsys, "u/many", "--num-ctx", "64")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["QUANT", "SIZE", "FITS", "CONTEXT", "TOK/S"]
    assert lines[1].split()[0] == "F16"
    assert lines[2].split()[:2] == ["*", "Q8_0"]
    assert any(line.startswith("* Q8_0: the best of 2 that fits") for line in lines)
    assert max(map(len, lines)) <= 80
    found = json.loads(run(capsys, "u/many", "--num-ctx", "64", "--json")[1])
    assert [(quant["quant"], quant["chosen"]) for quant in found["quants"]] == [
        ("F16", False),
        ("Q8_0", True),
    ]
    if native.instruction_sets():  # torch leaves one of them in the file
        assert found["quants"][0]["weights"]["held"] > found["quants"][1]["weights"]["held"]
    assert found["quants"][1]["weights"] == found["weights"]


def test_json_of_a_local_model_and_of_the_same_elsewhere(
    hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("u/m", **{"m-Q8_0.gguf": WEIGHTS})
    ours = json.loads(run(capsys, str(POCKET.path), "--json", "-c", "64", "--parallel", "4")[1])
    theirs = json.loads(run(capsys, "u/m:Q8_0", "--json", "-c", "64", "--parallel", "4")[1])
    assert ours["path"] == str(POCKET.path)
    assert theirs["path"] is None
    for key in (
        "weights",
        "buffers",
        "tokenizer",
        "read_per_token",
        "context",
        "model_context",
        "tensor_bytes",
    ):
        assert ours[key] == theirs[key], key
    cache = ours["caches"][0]
    assert cache["largest_each"] == cache["largest"] // 4
    assert ours["tokens_per_second"]["first"] > ours["tokens_per_second"]["last"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_the_report_keeps_to_the_width(
    width: int,
    hub: FakeHub,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mull.cli.terminal.Terminal.width", property(lambda self: width))
    code, out, _ = run(capsys, str(POCKET.path), "--parallel", "2")
    assert code == 0
    assert "weights" in out
    assert "f16" in out
    if width >= 40:
        path = max(out.splitlines(), key=len)
        assert len(path) <= width or str(POCKET.path) in path


def test_what_is_measured_is_kept(
    hub: FakeHub,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def bandwidth(*args: str) -> float:
        return float(json.loads(run(capsys, str(POCKET.path), "--json", *args)[1])["machine"]["bandwidth"])

    assert bandwidth() == 10e9
    monkeypatch.setattr("mull.runtime.machine.measure_reading", lambda *args: 20e9)
    assert (bandwidth(), bandwidth("--measure"), bandwidth()) == (10e9, 20e9, 20e9)
    assert (tmp_path / "home/.local/state/mull/bandwidth.json").is_file()


def test_errors_are_a_line_and_a_hint(
    hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("u/gated", **{"m-Q8_0.gguf": WEIGHTS})
    hub.gated["u/gated"] = "right"
    hub.add("u/pickled", **{"pytorch_model.bin": b"x" * 5000})
    hub.add("u/html", **{"m-Q8_0.gguf": b"<html>" * 2000})
    hub.add("u/cut", **{"m-Q8_0.gguf": WEIGHTS[: len(WEIGHTS) // 2]})
    hub.add("u/m", **{"m-Q8_0.gguf": WEIGHTS})

    def error(*args: str) -> str:
        code, out, err = run(capsys, *args)
        assert (code, out) in ((1, ""), (2, ""))
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert "mull-fit" not in err
        assert len(err.splitlines()) <= 2
        return err

    assert "gated" in error("u/gated:Q8_0")
    assert "hint: accept its terms" in error("u/gated")
    assert "no file that can be used" in error("u/pickled")
    assert "m-Q8_0.gguf: not a GGUF file" in error("u/html:Q8_0")
    assert "m-Q8_0.gguf: the file is truncated" in error("u/cut:Q8_0")
    assert "has no u/none" in error("u/none")
    assert "has no Q4_K_M" in error("u/m:Q4_K_M")
    assert "no such file" in error("./none.gguf")
    assert "no such file" in error("none.gguf")
    assert "at least 1 token" in error("u/m", "--num-ctx", "0")
    assert "--parallel must be" in error("u/m", "--parallel", "0")
    assert "the model's is" in error(str(POCKET.path), "--num-ctx", "1M")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in error("u/m:Q8_0")


def test_a_model_that_is_here_needs_no_network(
    hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("u/m", **{"m-Q8_0.gguf": WEIGHTS})
    assert run_command(["pull", "--quiet", "u/m"]) == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, out, _ = run(capsys, "u/m")
    assert code == 0
    assert "Q8_0" in out
