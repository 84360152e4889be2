"""`llm compare` agrees with llama-perplexity's --kl-divergence, and with the same sums over llama.cpp's own logits."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mull.cli.main import run_command
from mull.models.pocket import model_path
from mull.models.pocket.problems import make_problem
from peers.binding import Peer, quantize
from peers.tools import plain_text, run_tool

pytestmark = pytest.mark.peer

WINDOW = 128
EXACT = ("-ctk", "f32", "-ctv", "f32", "-t", 1)
Figures = dict[str, float]

_ALONE = re.compile(r"Final estimate: PPL = ([\d.]+)")
_ROW = re.compile(r"^ *\d+ .*±.*%.*%$", re.MULTILINE)
_DONE = re.compile(r"Mean    KLD:")


def ours(base: Path, other: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> Figures:
    line = ["compare", base, other, "-f", text, "-c", WINDOW, *EXACT, "--no-speed", "--json"]
    assert run_command([str(word) for word in line]) == 0
    found = json.loads(capsys.readouterr().out)
    return {
        "tokens": found["tokens"],
        "ppl": found["ppl"]["value"],
        "ppl_base": found["ppl_base"]["value"],
        "kl": found["kl"]["value"],
        "median": found["kl_spread"]["median"],
        "p99": found["kl_spread"]["p99"],
        "same_top": found["same_top"]["value"],
        "rms": found["delta_p_rms"]["value"],
    }


def sums(base: Path, other: Path, text: Path) -> Figures:
    """Compute the figures in float64 from llama.cpp's logits, kept in float32."""
    kl, same, change = [], [], []
    losses: tuple[list[float], list[float]] = ([], [])
    with Peer(base, WINDOW) as a, Peer(other, WINDOW) as b:
        ids = a.tokenize(text.read_text(), special=True, parse_special=False)
        for start in range(0, len(ids) - WINDOW + 1, WINDOW):
            window = a.bos + ids[start + len(a.bos) : start + WINDOW]
            p, q = (torch.from_numpy(peer.logits(window)).double().log_softmax(-1) for peer in (a, b))
            for at in range(WINDOW // 2, WINDOW - 1):
                losses[0].append(-float(p[at, window[at + 1]]))
                losses[1].append(-float(q[at, window[at + 1]]))
                change.append(math.exp(-losses[1][-1]) - math.exp(-losses[0][-1]))
                kl.append(float((p[at].exp() * (p[at] - q[at])).sum()))
                same.append(bool(p[at].argmax() == q[at].argmax()))
    return {
        "tokens": len(kl),
        "ppl": math.exp(float(np.mean(losses[1]))),
        "ppl_base": math.exp(float(np.mean(losses[0]))),
        "kl": float(np.mean(kl)),
        "median": float(np.median(kl)),
        "p99": float(np.quantile(kl, 0.99)),
        "same_top": float(np.mean(same)),
        "rms": float(np.sqrt(np.mean(np.square(change)))),
    }


def told(base: Path, other: Path, text: Path, folder: Path) -> Figures:
    """Return what llama-perplexity prints after its last window."""
    kept = ("-f", text, "-c", WINDOW, *EXACT, "-fa", "off", "--kl-divergence-base", folder / "kept")
    alone = run_tool("llama-perplexity", "-m", base, *kept, until=_ALONE)
    rows = run_tool("llama-perplexity", "-m", other, *kept, "--kl-divergence", until=_DONE)
    numbers = [float(word) for word in re.findall(r"-?[\d.]+(?= ±)", _ROW.findall(rows)[-1])]
    return {
        # Its file of log probabilities ends 16 nats below the likeliest; the perplexity itself does not.
        "ppl_base": float(_ALONE.findall(alone)[-1]),
        "ppl": numbers[0],
        "kl": numbers[2],
        "rms": numbers[3] / 100,
        "same_top": numbers[4] / 100,
    }


def assert_close(found: Figures, expected: Figures) -> None:
    """Hold perplexities and mean divergence to 1 % or 1e-4, and single tokens' figures a little less."""
    for name, value in expected.items():
        rel = 0.05 if name in ("median", "p99", "rms") else 0.01
        assert found[name] == pytest.approx(value, rel=rel, abs=1e-4), name


@pytest.mark.parametrize("file_type", ["Q8_0", "Q4_K_M", "Q2_K"])
def test_random_models(
    file_type: str, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = quantize(wide, tmp_path / "other.gguf", file_type)
    text = plain_text(tmp_path / "text", 2)
    found, expected = ours(wide, other, text, capsys), sums(wide, other, text)
    assert found["tokens"] == expected["tokens"] > 900
    assert_close(found, expected)
    assert_close(found, told(wide, other, text, tmp_path))


def test_the_demo_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not model_path().is_file():
        pytest.skip("the demo model is not here")
    rng = random.Random(0)
    problems = [make_problem(rng) for _ in range(150)]
    text = tmp_path / "problems"
    text.write_text("\n".join(f"{p.prompt}\n{p.thought}\n{p.answer}" for p in problems))
    other = quantize(model_path(), tmp_path / "other.gguf", "Q4_K_M")
    found = ours(model_path(), other, text, capsys)
    expected = sums(model_path(), other, text)
    assert found["tokens"] == expected["tokens"] > 5000
    assert_close(found, expected)
    assert_close(found, told(model_path(), other, text, tmp_path))
