"""`llm perplexity`: llama-perplexity's windows, sums and texts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from mull.cli import perplexity
from mull.cli.main import run_command
from mull.errors import InvalidRequest

VOCAB, BOS = 32, 31


class Letters:
    """A tokenizer of the letters a to z."""

    bos_id = BOS

    def __init__(self, *, add_bos: bool) -> None:
        self.add_bos = add_bos

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        assert not special
        return [ord(letter) - ord("a") for letter in text]


class Scripted:
    """A model whose logits depend on the position and the last two tokens; notes what it was asked."""

    def __init__(self, *, add_bos: bool = False) -> None:
        self.tokenizer = Letters(add_bos=add_bos)
        self.windows: list[list[int]] = []

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *reason: object) -> None:
        pass

    def row(self, ids: Sequence[int], at: int) -> torch.Tensor:
        seed = ids[at] + 100 * (ids[at - 1] if at else 0) + 10_000 * at
        return torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed)) * 3

    def logits(self, ids: Sequence[int], first: int = 0) -> torch.Tensor:
        self.windows.append(list(ids))
        return torch.stack([self.row(ids, at) for at in range(first, len(ids))])


def reference(llm: Scripted, windows: list[list[int]]) -> tuple[float, float, int]:
    """Compute perplexity, error and count one token at a time."""
    losses = []
    for ids in windows:
        for at in range(len(ids) // 2, len(ids) - 1):
            losses.append(-float(llm.row(ids, at).double().log_softmax(-1)[ids[at + 1]]))
    mean = sum(losses) / len(losses)
    variance = sum(loss * loss for loss in losses) / len(losses) - mean * mean
    return math.exp(mean), math.sqrt(variance / (len(losses) - 1)) * math.exp(mean), len(losses)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Return a file of 103 letters and a line end."""
    letters = "".join(chr(ord("a") + (i * i + 3) % 26) for i in range(103))
    (tmp_path / "text").write_text(letters + "\n")
    return tmp_path / "text"


def use(monkeypatch: pytest.MonkeyPatch, llm: Scripted) -> None:
    """Make the command load this model."""
    monkeypatch.setattr(perplexity, "open_tokenizer", lambda model: llm.tokenizer)
    monkeypatch.setattr(perplexity, "open_llm", lambda *args, **options: llm)


@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("num_ctx", [10, 25, 51])
def test_every_window_is_scored_as_llama_perplexity_does(
    num_ctx: int,
    add_bos: bool,
    text: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    llm = Scripted(add_bos=add_bos)
    use(monkeypatch, llm)
    ids = llm.tokenizer.encode(text.read_text().strip(), special=False)
    if add_bos:
        ids = [BOS, *ids]
    windows = [ids[i * num_ctx : (i + 1) * num_ctx] for i in range(len(ids) // num_ctx)]
    if add_bos:
        windows = [[BOS, *window[1:]] for window in windows]

    perplexity.command("m", text, num_ctx=num_ctx, as_json=True)

    ppl, error, count = reference(llm, windows)
    assert llm.windows == windows
    assert json.loads(capsys.readouterr().out) == {
        "ppl": pytest.approx(ppl, rel=1e-6),
        "error": pytest.approx(error, rel=1e-5),
        "tokens": count,
    }


def test_the_running_value_ends_in_the_result(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, Scripted())
    perplexity.command("m", text, num_ctx=40)
    running, result = capsys.readouterr().out.splitlines()
    assert running.startswith("[1]")
    last = running.rstrip(",").partition("[2]")[2]
    assert result.startswith(f"PPL = {last} ± ")
    perplexity.command("m", text, num_ctx=40, quiet=True)
    assert capsys.readouterr().out == result + "\n"


def test_a_short_text_says_how_long_it_must_be(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Scripted())
    with pytest.raises(InvalidRequest, match="103 tokens, and windows of 52 need at least 104") as caught:
        perplexity.command("m", text, num_ctx=52)
    assert "--num-ctx 51" in str(caught.value.hint)


def test_the_command_line(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, Scripted())
    assert run_command(["perplexity", "m", "--file", str(text), "-c", "40", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == 38
    assert run_command(["perplexity", "m", "-f", str(text)]) == 1
    assert "windows of 512 need at least 1024" in capsys.readouterr().err
    assert run_command(["perplexity", "m", "-f", str(text), "-c", "3"]) == 1
    assert "at least 4 tokens" in capsys.readouterr().err


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no such file"):
        perplexity.command("m", tmp_path / "absent")
    (tmp_path / "bytes").write_bytes(b"abc\xff")
    with pytest.raises(InvalidRequest, match=r"not UTF-8 text \(at byte 3\)"):
        perplexity.command("m", tmp_path / "bytes")


def test_infinite_loss_is_no_number_in_json(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    llm = Scripted()
    monkeypatch.setattr(llm, "row", lambda ids, at: torch.full((VOCAB,), float("nan")))
    use(monkeypatch, llm)
    perplexity.command("m", text, num_ctx=10, as_json=True)
    assert json.loads(capsys.readouterr().out)["ppl"] is None
