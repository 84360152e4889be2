"""`llm imatrix`: measuring, adding up, showing, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from mull.cli.main import run_command
from mull.quant.imatrix import Entry, ImportanceMatrix

WORDS = "the weather is fine and the path is long so we walk on "
SIZE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dense model, a sparse one, and a text of some 800 tokens."""
    folder = tmp_path_factory.mktemp("imatrix")
    for name in ("llama", "qwen3moe"):
        tiny.write_gguf(tiny.build(name), name, folder / f"{name}.gguf")
    (folder / "text").write_text(WORDS * 15)
    return folder


def run(*words: object) -> int:
    return run_command(["imatrix", *map(str, words)])


def measure(folder: Path, output: Path, *words: object, model: str = "llama") -> ImportanceMatrix:
    path = folder / f"{model}.gguf"
    assert run(path, "-f", folder / "text", "-c", SIZE, "-t", 1, "-o", output, *words) == 0
    return ImportanceMatrix.read(output)


def test_a_text_is_measured(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(folder, tmp_path / "m.gguf", "--chunks", 3)
    assert len(found.entries) == 14
    assert {int(entry.counts[0]) for entry in found.entries.values()} == {3 * SIZE}
    assert found.datasets == (str(folder / "text"),)
    assert (found.chunk_count, found.chunk_size) == (3, SIZE)
    assert f"{tmp_path / 'm.gguf'}: 14 matrices over 3 windows of 64" in capsys.readouterr().err


def test_all_windows_and_the_output(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(folder, tmp_path / "m.gguf", "--process-output", "-q")
    assert found.chunk_count > 10
    assert set(found.entries) >= {"output.weight", "blk.1.ffn_down.weight"}
    assert capsys.readouterr() == ("", "")


def test_experts(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(folder, tmp_path / "m.gguf", "--chunks", 1, model="qwen3moe")
    entry = found.entries["blk.0.ffn_up_exps.weight"]
    assert entry.sums.shape == (4, 64)
    assert entry.counts.sum() == 2 * SIZE


def test_earlier_matrices_are_added(folder: Path, tmp_path: Path) -> None:
    first = measure(folder, tmp_path / "a.gguf", "--chunks", 2)
    total = measure(folder, tmp_path / "b.gguf", "--chunks", 2, "--in-file", tmp_path / "a.gguf")
    for name, entry in total.entries.items():
        np.testing.assert_allclose(entry.sums, 2 * first.entries[name].sums, rtol=1e-5)
    assert total.chunk_count == 4
    both = tmp_path / "both.gguf"
    files = ("--in-file", tmp_path / "a.gguf", "--in-file", tmp_path / "b.gguf")
    assert run(*files, "-o", both, "-c", SIZE) == 0
    assert ImportanceMatrix.read(both).chunk_count == 6


def test_what_there_is_is_saved_on_the_way(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks: list[int] = []
    write = ImportanceMatrix.write

    def note(self: ImportanceMatrix, path: Path) -> None:
        chunks.append(self.chunk_count)
        write(self, path)

    monkeypatch.setattr(ImportanceMatrix, "write", note)
    measure(folder, tmp_path / "m.gguf", "--chunks", 5, "--save-every", 2)
    assert chunks == [2, 4, 5]


def test_experts_without_a_token_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = Entry(np.ones((2, 4), np.float32), np.array([512, 0]))
    ImportanceMatrix({"blk.0.ffn_up_exps.weight": entry}).write(tmp_path / "m.gguf")
    assert run("--in-file", tmp_path / "m.gguf", "-o", tmp_path / "n.gguf") == 0
    assert "in 1 of 1 matrices some experts saw no token" in capsys.readouterr().err


def test_statistics(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measure(folder, tmp_path / "m.gguf", "--chunks", 2, "-q")
    assert run("--show", tmp_path / "m.gguf", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["chunk_count"], shown["chunk_size"]) == (2, SIZE)
    rows = {row["name"]: row for row in shown["tensors"]}
    assert set(rows) == set(found.entries)
    importance = found.importance("blk.0.ffn_down.weight")
    assert importance is not None
    assert rows["blk.0.ffn_down.weight"]["total"] == pytest.approx(float(importance.sum()), rel=1e-5)
    for width in (40, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        assert run("--show", tmp_path / "m.gguf") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("14 matrices, 2 windows of 64 tokens")
        assert any(line.strip().startswith("blk.1.attn_q ") for line in lines)
        assert max(map(len, lines[1:])) <= width


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no model to run"),
        (("-f", "text"), "no model to run"),
        (("m.gguf",), "no text to measure on"),
        (("m.gguf", "-f", "text", "-c", 3), "windows need at least 4 tokens, not 3"),
        (("m.gguf", "-f", "text", "-o", "."), ". is a folder"),
        (("m.gguf", "-f", "text", "-o", "absent/m.gguf"), "absent: no such folder"),
        (("--json",), "--json goes with --show"),
        (("--show", "absent.gguf"), "absent.gguf: no such file"),
        (("absent.gguf", "-f", "text"), "absent.gguf"),
    ],
)
def test_what_cannot_be_done(
    words: tuple[object, ...],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("text")
    assert run(*words) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_texts_that_cannot_be_measured(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "llama.gguf"
    assert run(path, "-f", folder / "text", "-c", 128, "--in-file", folder / "text") == 1
    assert "neither a GGUF file nor a .dat file" in capsys.readouterr().err
    (tmp_path / "short").write_text(WORDS)
    assert run(path, "-f", tmp_path / "short", "-o", tmp_path / "m.gguf") == 1
    assert "windows of 512 need at least 1024" in capsys.readouterr().err
    (tmp_path / "bytes").write_bytes(b"\xff" * 2000)
    assert run(path, "-f", tmp_path / "bytes", "-o", tmp_path / "m.gguf") == 1
    assert "not UTF-8 text (at byte 0)" in capsys.readouterr().err


def test_a_matrix_of_another_model(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = Entry(np.ones((1, 5), np.float32), np.array([512]))
    ImportanceMatrix({"blk.0.attn_q.weight": entry}).write(tmp_path / "other.gguf")
    text, output = folder / "text", tmp_path / "m.gguf"
    assert (
        run(folder / "llama.gguf", "-f", text, "-c", SIZE, "--in-file", tmp_path / "other.gguf", "-o", output)
        == 1
    )
    error = capsys.readouterr().err
    assert "5 columns for 'blk.0.attn_q.weight', and the model 64" in error
    assert "hint: it was measured on another model" in error
    assert not output.exists()
