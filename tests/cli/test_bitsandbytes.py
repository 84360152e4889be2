"""`--quantize`, and `llm quantize DIR OUT nf4`: what they print, and what they refuse."""

from __future__ import annotations

import io
import json
from pathlib import Path

import folders
import pytest
import tiny
from mull.cli.main import run_command
from mull.registry.store import Store


@pytest.fixture
def model(tmp_path: Path, store: Store) -> Path:
    """Return a tiny folder with a tokenizer."""
    tiny.save("llama", tmp_path / "tiny")
    folders.add_tokenizer(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture(autouse=True)
def nothing_is_piped_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))


def run(*words: object) -> int:
    return run_command(list(map(str, words)))


@pytest.mark.parametrize("kind", ["q8_0", "int8"])
def test_a_model_is_quantized_while_it_is_loaded(
    kind: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", model, "--quantize", kind, "--raw", "-n", 3, "--seed", 1, "--json", "a b") == 0
    assert len(json.loads(capsys.readouterr().out)["token_ids"]) == 3


@pytest.mark.parametrize(("kind", "hint"), [("nf5", "did you mean nf4"), ("???", "llm quantize --list")])
def test_an_unknown_type_is_refused_before_anything_is_loaded(
    kind: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (("run", "absent", "hi"), ("bench", "absent")):
        assert run(*command, "--quantize", kind) != 0
        said = capsys.readouterr().err
        assert f"error: there is no type '{kind}'" in said
        assert f"hint: {hint}" in said.replace("nf4, fp4, int8, or a type of ", "")


def test_a_folder_for_transformers_is_written_and_runs(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("quantize", model, out, "NF4", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["type"] == "nf4"
    assert report["bytes"] == (out / "model.safetensors").stat().st_size
    assert (
        json.loads((out / "config.json").read_text())["quantization_config"]["bnb_4bit_quant_type"] == "nf4"
    )
    assert run("run", out, "--raw", "-n", 2, "--json", "a") == 0
    capsys.readouterr()
    assert run("run", out, "--raw", "--quantize", "q4_0", "a") != 0
    assert "error: the weights are nf4 already" in capsys.readouterr().err
    assert run("quantize", model, out, "nf4") != 0
    assert "out exists already" in capsys.readouterr().err
    assert run("quantize", out, tmp_path / "again", "int8") != 0
    assert "are nf4 already" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("out", "nf4", "--pure"), "has no mixtures"),
        (("out", "int8", "--dry-run"), "has no mixtures"),
        (("out", "fp4", "--name", "x"), "exclude one another"),
        (("nf4",), "where is the model to be written"),
    ],
)
def test_options_of_gguf_files_have_no_place_there(
    words: tuple[str, ...], says: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("quantize", model, *words) != 0
    assert says in capsys.readouterr().err
