"""Importance matrices that llama-imatrix and llama-quantize take for their own, and theirs that we do."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny
from mull.cli.main import run_command
from mull.quant.imatrix import ImportanceMatrix, merge
from peers.tools import plain_text, run_tool
from tiny import Tiny

pytestmark = pytest.mark.peer

WINDOW, CHUNKS = 128, 6
WIDE = Tiny("Llama", "llama", {"hidden_size": 256, "intermediate_size": 512})
# The cache in float32, as ours is here: a sparse model may otherwise send single tokens to other experts.
EXACT = ("-ctk", "f32", "-ctv", "f32", "-fa", "off", "-t", 1)


@pytest.fixture(params=["wide", "qwen3moe", "gemma2", "phi3"])
def model(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a float32 model."""
    monkeypatch.setitem(tiny.TINY, "wide", WIDE)
    name = str(request.param)
    return tiny.write_gguf(tiny.build(name), str(tiny.TINY[name].gguf), tmp_path / "model.gguf")


def ours(model: Path, text: Path, output: Path, *words: object) -> ImportanceMatrix:
    line = [
        "imatrix",
        model,
        "-f",
        text,
        "-c",
        WINDOW,
        "--chunks",
        CHUNKS,
        "-t",
        1,
        "-q",
        "-o",
        output,
        *words,
    ]
    assert run_command([str(word) for word in line]) == 0
    return ImportanceMatrix.read(output)


def theirs(model: Path, text: Path, output: Path, *words: object) -> ImportanceMatrix:
    line = ["-m", model, "-f", text, "-c", WINDOW, "--chunks", CHUNKS, *EXACT, "-o", output, *words]
    run_tool("llama-imatrix", *line)
    return ImportanceMatrix.read(output)


def test_sums_equal_llama_imatrix(model: Path, tmp_path: Path) -> None:
    text = plain_text(tmp_path / "text")
    expected = theirs(model, text, tmp_path / "theirs.gguf", "--process-output")
    found = ours(model, text, tmp_path / "ours.gguf", "--process-output")
    # Tied to the embedding, the output has no name of its own there.
    assert set(found.entries) - {"token_embd.weight"} == set(expected.entries)
    for name, entry in expected.entries.items():
        assert found.entries[name].counts.tolist() == entry.counts.tolist()
        np.testing.assert_allclose(
            found.entries[name].sums, entry.sums, rtol=1e-2, atol=1e-3 * entry.sums.max()
        )
    assert (found.datasets, found.chunk_count, found.chunk_size) == (
        expected.datasets,
        expected.chunk_count,
        expected.chunk_size,
    )


def test_their_file_is_written_again_byte_for_byte(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "theirs.gguf"
    found = theirs(model, plain_text(tmp_path / "text"), path)
    found.write(tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == path.read_bytes()
    both = tmp_path / "both.gguf"
    run_tool("llama-imatrix", "-m", model, "--in-file", path, "--in-file", path, "-o", both, "-c", WINDOW)
    merge([found, found], WINDOW).write(tmp_path / "merged.gguf")
    assert (tmp_path / "merged.gguf").read_bytes() == both.read_bytes()


def test_their_older_format_says_the_same(model: Path, tmp_path: Path) -> None:
    text = plain_text(tmp_path / "text")
    new = theirs(model, text, tmp_path / "new.gguf")
    theirs(model, text, tmp_path / "old.dat", "--output-format", "dat")
    old = ImportanceMatrix.read(tmp_path / "old.dat", WINDOW)
    assert (old.chunk_count, old.datasets) == (new.chunk_count, new.datasets)
    for name in new.entries:
        a, b = old.importance(name), new.importance(name)
        assert a is not None
        assert b is not None
        np.testing.assert_allclose(a.ravel(), b.ravel(), rtol=1e-5)


def test_llama_quantize_reads_ours(model: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "ours.gguf", tmp_path / "quantized.gguf"
    found = ours(model, plain_text(tmp_path / "text"), path)
    said = run_tool("llama-quantize", "--imatrix", path, model, output, "IQ3_XXS", 1)
    assert f"have {len(found.entries)} importance matrix entries" in said
    assert "did not find weights for blk" not in said
    fields = gguf.GGUFReader(output).fields
    assert fields["quantize.imatrix.entries_count"].contents() == len(found.entries)
    assert fields["quantize.imatrix.chunks_count"].contents() == CHUNKS
    assert fields["quantize.imatrix.dataset"].contents() == str(tmp_path / "text")
