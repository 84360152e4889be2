"""`llm compare`: figures, tables, pictures, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import tiny
import torch
from mull.cli import comparison
from mull.cli.main import run_command
from mull.llm import LLM
from mull.runtime.load_options import LoadOptions

WORDS = "the weather is fine and the path is long so we walk on "
SIZE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, the same with noise, one of another vocabulary, and a text."""
    folder = tmp_path_factory.mktemp("compare")
    model = tiny.build("llama")
    tiny.write_gguf(model, "llama", folder / "base.gguf")
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "layers.1." in key and weight.ndim > 1:
                weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    tiny.write_gguf(model, "llama", folder / "other.gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.BASE, "vocab_size", 160)
        tiny.write_gguf(tiny.build("llama"), "llama", folder / "larger.gguf")
    (folder / "text").write_text(WORDS * 15)
    return folder


def run(folder: Path, *words: object, base: str = "base", other: str = "other") -> int:
    models = [str(folder / f"{name}.gguf") for name in (base, other)]
    return run_command(["compare", *models, "-f", str(folder / "text"), "-t", "1", *map(str, words)])


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out)


def reference(folder: Path, num_windows: int) -> dict[str, float]:
    """Compute perplexities and divergence in float64 from all logits."""
    options = LoadOptions(num_ctx=SIZE, threads=1, device="cpu")
    losses: tuple[list[float], list[float]] = ([], [])
    kl, same = [], []
    with (
        LLM.open(str(folder / "base.gguf"), options) as a,
        LLM.open(str(folder / "other.gguf"), options) as b,
    ):
        ids = [1, *a.tokenizer.encode((folder / "text").read_text(), special=False)]
        for start in range(0, SIZE * num_windows, SIZE):
            window = [1, *ids[start + 1 : start + SIZE]]
            rows = [llm.logits(window).double().log_softmax(-1) for llm in (a, b)]
            for at in range(SIZE // 2, SIZE - 1):
                p, q = (row[at] for row in rows)
                losses[0].append(-float(p[window[at + 1]]))
                losses[1].append(-float(q[window[at + 1]]))
                kl.append(float((p.exp() * (p - q)).sum()))
                same.append(bool(p.argmax() == q.argmax()))
    count = len(kl)
    return {
        "tokens": count,
        "ppl_base": math.exp(sum(losses[0]) / count),
        "ppl": math.exp(sum(losses[1]) / count),
        "kl": sum(kl) / count,
        "largest": max(kl),
        "same_top": sum(same) / count,
    }


@pytest.mark.parametrize("in_turn", [False, True])
def test_the_figures(
    in_turn: bool, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_turn:
        monkeypatch.setattr(comparison, "available_memory", lambda device: 1 << 20)
    expected = reference(folder, 4)
    assert run(folder, "-c", SIZE, "--chunks", 4, "--json", "--no-speed") == 0
    report = found(capsys)
    assert report["in_turn"] is in_turn
    assert (report["tokens"], report["windows"], report["num_ctx"]) == (expected["tokens"], 4, SIZE)
    for name in ("ppl_base", "ppl"):
        assert report[name]["value"] == pytest.approx(expected[name], rel=1e-4)
    assert report["kl"]["value"] == pytest.approx(expected["kl"], rel=1e-2, abs=1e-4)
    assert report["kl"]["value"] > 1e-3
    assert report["kl_spread"]["maximum"] == pytest.approx(expected["largest"], rel=1e-2)
    assert report["same_top"]["value"] == pytest.approx(expected["same_top"], abs=0.01)
    assert report["base"]["size"] == report["other"]["size"]
    assert report["base"]["bits_per_weight"] == 32
    assert report["base"]["speed"] is None
    names = {row["name"]: row["error"] for row in report["tensors"]}
    assert names["blk.0.attn_q.weight"] == 0
    assert 0.05 < names["blk.1.attn_q.weight"] < 0.3
    assert list(names.values()) == sorted(names.values(), reverse=True)


def test_speed_and_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_ROUNDS", 1)
    for width in (40, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        assert run(folder, "-c", SIZE, "--chunks", 2) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
        text = " ".join(" ".join(lines).split())
        for word in ("base.gguf", "perplexity", "decode t/s", "KL divergence", "blk.1.", "F32 → F32"):
            assert word in text, word
    assert run(folder, "-c", SIZE, "--chunks", 1, "--json") == 0
    report = found(capsys)
    assert report["base"]["speed"]["prefill"] > 0
    assert report["other"]["speed"]["decode"] > 0


def test_files_that_name_their_tensors_differently(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "weight_errors", lambda *checkpoints: iter(()))
    assert run(folder, "-c", SIZE, "--chunks", 1, "--json", "--no-speed") == 0
    report = found(capsys)
    assert (report["weight_error"], report["tensors"]) == (None, [])
    assert run(folder, "-c", SIZE, "--chunks", 1, "--no-speed") == 0
    assert "named differently" in capsys.readouterr().out


def test_a_model_against_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "-c", SIZE, "--chunks", 2, "--json", "--no-speed", other="base") == 0
    report = found(capsys)
    assert report["kl"]["value"] == report["weight_error"] == report["log_ratio"]["value"] == 0
    assert report["same_top"]["value"] == 1
    assert report["ppl"] == report["ppl_base"]


def test_loaded_models_are_compared(folder: Path) -> None:
    options = LoadOptions(num_ctx=SIZE, threads=1)
    with (
        LLM.open(str(folder / "base.gguf"), options) as base,
        LLM.open(str(folder / "larger.gguf"), options) as larger,
    ):
        windows = [[1, *range(3, 40)]]
        assert comparison.compare(base, base, windows).kl.value == 0
        with pytest.raises(comparison.InvalidRequest, match="the models predict 128 and 160 tokens"):
            comparison.compare(base, larger, windows)


def test_a_picture(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    for name, start in (("loss.png", b"\x89PNG"), ("loss.svg", b"<?xml")):
        assert run(folder, "-c", SIZE, "--chunks", 2, "--no-speed", "-q", "--plot", tmp_path / name) == 0
        assert (tmp_path / name).read_bytes().startswith(start)
    assert run(folder, "-c", SIZE, "--plot", tmp_path / "loss.txt") == 1
    assert "pictures end in .png, .svg, .pdf" in capsys.readouterr().err
    assert run(folder, "-c", SIZE, "--plot", tmp_path / "absent" / "loss.png") == 1
    assert "no such folder" in capsys.readouterr().err


def test_without_matplotlib(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mull.cli.comparison_plot.find_spec", lambda name: None)
    assert run(folder, "-c", SIZE, "--plot", tmp_path / "loss.png") == 1
    error = capsys.readouterr().err
    assert "error: pictures need matplotlib" in error
    assert 'hint: pip install "mull[plot]"' in error


def test_other_vocabularies(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "-c", SIZE, other="larger") == 1
    error = capsys.readouterr().err
    assert "do not read the text alike: their vocabularies have 128 and 160 tokens" in error
    assert "hint: only models with the same tokenizer can be compared" in error


def test_no_room_for_predictions(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "available_memory", lambda device: 1 << 20)
    usage = comparison.shutil.disk_usage("/")
    monkeypatch.setattr(comparison.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    assert run(folder, "-c", SIZE) == 1
    error = capsys.readouterr().err
    assert "has room for 1 KB" in error
    assert "--chunks N" in error


def test_what_cannot_be_done(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, other="absent") == 1
    assert "absent.gguf" in capsys.readouterr().err
    assert run(folder) == 1
    assert "windows of 512 need at least 1024" in capsys.readouterr().err
    assert run(folder, "-c", 3) == 1
    assert "windows need at least 4 tokens, not 3" in capsys.readouterr().err
    (folder / "bytes").write_bytes(b"abc\xff")
    assert run(folder, "-f", folder / "bytes") == 1
    assert "not UTF-8 text (at byte 3)" in capsys.readouterr().err
    assert run(folder, "-f", folder / "nothing") == 1
    assert "no such file" in capsys.readouterr().err
