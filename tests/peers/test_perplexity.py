"""`llm perplexity` equals llama-perplexity's protocol, written out here over llama.cpp's own ids and logits."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mull.cli.main import run_command
from mull.models.pocket import model_path
from mull.models.pocket.problems import make_problem
from peers.binding import Peer, quantize

pytestmark = pytest.mark.peer

WINDOW = 128
TEXT = Path(__file__).resolve().parents[2] / "LICENSE"


@dataclass(frozen=True)
class Measured:
    """A perplexity, its standard error, and over how many tokens."""

    ppl: float
    error: float
    tokens: int


def theirs(path: Path, text: str) -> Measured:
    """Score the second half of every window, whose first token gives way to BOS."""
    losses: list[float] = []
    with Peer(path, 256) as peer:
        ids = peer.tokenize(text, special=True, parse_special=False)
        bos = peer.bos
        assert len(ids) >= 2 * WINDOW
        for start in range(0, len(ids) - WINDOW + 1, WINDOW):
            window = bos + ids[start + len(bos) : start + WINDOW]
            rows = torch.from_numpy(peer.logits(window)).double().log_softmax(-1)
            losses += [-float(rows[at, window[at + 1]]) for at in range(WINDOW // 2, WINDOW - 1)]
    mean = float(np.mean(losses))
    error = math.sqrt((float(np.mean(np.square(losses))) - mean**2) / (len(losses) - 1)) * math.exp(mean)
    return Measured(math.exp(mean), error, len(losses))


def ours(path: Path, text: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> Measured:
    words = ["perplexity", str(path), "--file", str(text), "-c", str(WINDOW), "--threads", "1", "--json"]
    assert run_command([*words, *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    return Measured(found["ppl"], found["error"], found["tokens"])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Return a file of English in ASCII, without the line end that llama-perplexity would drop."""
    (tmp_path / "text").write_text(TEXT.read_text().strip().encode("ascii", "ignore").decode())
    return tmp_path / "text"


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3moe"])
def test_float32_perplexity(
    name: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny.write_gguf(tiny.build(name), str(tiny.TINY[name].gguf), tmp_path / "tiny.gguf")
    expected, found = theirs(path, text.read_text()), ours(path, text, capsys)
    assert found.tokens == expected.tokens > 400
    assert found.ppl == pytest.approx(expected.ppl, rel=1e-3)
    assert found.error == pytest.approx(expected.error, rel=1e-2)


@pytest.mark.parametrize("file_type", ["F16", "Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "IQ4_XS"])
def test_quantized_perplexity(
    file_type: str, wide: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = quantize(wide, tmp_path / "quantized.gguf", file_type)
    expected, found = theirs(path, text.read_text()), ours(path, text, capsys)
    assert found.tokens == expected.tokens > 400
    assert found.ppl == pytest.approx(expected.ppl, rel=5e-3)
    assert found.error == pytest.approx(expected.error, rel=2e-2)


def test_the_demo_models_perplexity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not model_path().is_file():
        pytest.skip("the demo model is not here")
    rng = random.Random(0)
    problems = [make_problem(rng) for _ in range(40)]
    text = tmp_path / "problems"
    text.write_text("\n".join(f"{p.prompt}\n{p.thought}\n{p.answer}" for p in problems))
    expected, found = theirs(model_path(), text.read_text()), ours(model_path(), text, capsys)
    assert found.tokens == expected.tokens > 1000
    assert found.ppl == pytest.approx(expected.ppl, rel=5e-3)
