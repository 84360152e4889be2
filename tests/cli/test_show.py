"""`llm show`: sections, parts and JSON, from headers alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf_files import write_gguf
from mull.cli import create, show
from mull.cli.main import run_command
from mull.errors import InvalidRequest, ModelNotFound
from mull.registry.store import Store

TEMPLATE = "{{ messages[0].content }}{% if tools %}x{% endif %}<think>"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a GGUF with a template that thinks and calls tools, most of its weights in Q8_0."""
    matrix = np.linspace(-1, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    return write_gguf(
        tmp_path / "tiny.gguf",
        {
            "general.file_type": 7,
            "general.license": "apache-2.0",
            "qwen3.context_length": 2048,
            "qwen3.embedding_length": 64,
            "qwen3.rope.freq_base": 1e6,
            "tokenizer.ggml.tokens": ["a", "b\x1b[1m", "c"],
            "tokenizer.chat_template": TEMPLATE,
        },
        {"a.weight": (matrix, "q8_0"), "b.weight": matrix[0]},
        architecture="qwen3",
    )


def sections(text: str) -> dict[str, list[list[str]]]:
    """Cut the output into sections of rows of cells."""
    out: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("    "):
            rows.append([cell.strip() for cell in line.split("    ") if cell.strip()])
        elif line:
            rows = out.setdefault(line.strip(), [])
    return out


def test_a_file_shows_its_sections(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show.command(str(model))
    text = capsys.readouterr().out
    assert text.startswith("  Model\n    architecture        qwen3\n")
    assert sections(text) == {
        "Model": [
            ["architecture", "qwen3"],
            ["parameters", "4K"],
            ["context length", "2048"],
            ["embedding length", "64"],
            ["quantization", "Q8_0", "8.86 bits per weight: no measurable loss"],
        ],
        "Capabilities": [["completion"], ["tools"], ["thinking"]],
        "License": [["apache-2.0"]],
    }


def test_verbose_adds_metadata_and_tensors(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show.command(str(model), verbose=True)
    found = sections(capsys.readouterr().out)
    assert ["qwen3.rope.freq_base", "1e+06"] in found["Metadata"]
    assert ["tokenizer.ggml.tokens", "[a b\\x1b[1m ...+1 more]"] in found["Metadata"]
    assert found["Tensors"] == [["a.weight", "Q8_0", "[64, 64]"], ["b.weight", "F32", "[64]"]]


def test_a_created_model_shows_its_modelfile(
    store: Store, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Modelfile").write_text(
        'FROM tiny.gguf\nPARAMETER stop "a b"\nPARAMETER stop c\nPARAMETER temperature 0.5\n'
        'SYSTEM """one\n two\n\nthree"""\nLICENSE free\n'
    )
    create.command("mine", str(tmp_path / "Modelfile"), quiet=True)
    show.command("mine")
    found = sections(capsys.readouterr().out)
    assert found["Parameters"] == [["stop", '"a b"'], ["stop", '"c"'], ["temperature", "0.5"]]
    assert found["System"] == [["one"], ["two"], ["..."]]
    assert found["License"] == [["free"]]
    show.command("mine", system=True)
    assert capsys.readouterr().out == "one\n two\n\nthree\n"
    show.command("mine", template=True)
    assert capsys.readouterr().out == TEMPLATE + "\n"
    show.command("mine", license_=True)
    assert capsys.readouterr().out == "free\n"
    show.command("mine", parameters=True)
    assert capsys.readouterr().out.split() == ["stop", '"a', 'b"', "stop", '"c"', "temperature", "0.5"]


def test_the_printed_modelfile_makes_the_same_model(
    store: Store, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one").write_text(f'FROM {model}\nSYSTEM "be brief"\nPARAMETER seed 7\nMESSAGE user hi\n')
    create.command("one", str(tmp_path / "one"), quiet=True)
    show.command("one", modelfile=True)
    (tmp_path / "two").write_text(capsys.readouterr().out)
    create.command("two", str(tmp_path / "two"), quiet=True)
    assert store.read(store.resolve("one")) == store.read(store.resolve("two"))


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show.command(str(model), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["details"]["parameter_count"] == 64 * 64 + 64
    assert found["details"]["quantization_level"] == "Q8_0"
    assert found["capabilities"] == ["completion", "tools", "thinking"]
    assert found["model_info"]["qwen3.context_length"] == 2048
    assert "tokenizer.ggml.tokens" not in found["model_info"]
    assert "tensors" not in found
    show.command(str(model), as_json=True, verbose=True)
    found = json.loads(capsys.readouterr().out)
    assert len(found["model_info"]["tokenizer.ggml.tokens"]) == 3
    assert found["tensors"][0] == {"name": "a.weight", "type": "Q8_0", "shape": [64, 64]}


def test_a_terminal_gets_no_escape_sequences(
    store: Store,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "Modelfile").write_text(f"FROM {model}\nSYSTEM a \x1b[31mred\x1b]0;title\x07 one\n")
    create.command("mine", str(tmp_path / "Modelfile"), quiet=True)
    show.command("mine", system=True)
    assert capsys.readouterr().out == "a \x1b[31mred\x1b]0;title\x07 one\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show.command("mine", system=True)
    assert capsys.readouterr().out == "a red one\n"


def test_two_parts_at_once_are_refused(model: Path) -> None:
    with pytest.raises(InvalidRequest, match="only one of '--license', '--modelfile'"):
        show.command(str(model), system=True, license_=True)


def test_the_command_line(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["show", str(model), "--license"]) == 0
    assert capsys.readouterr().out == "apache-2.0\n"
    assert run_command(["show", str(model), "-v"]) == 0
    assert "  Tensors\n" in capsys.readouterr().out
    assert run_command(["show", str(model), "--license", "--template"]) == 1
    assert "only one of '--license'" in capsys.readouterr().err


def test_an_unknown_model_names_the_nearest(
    store: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Modelfile").write_text("FROM tiny.gguf")
    create.command("qwen3:8b", str(tmp_path / "Modelfile"), quiet=True)
    with pytest.raises(ModelNotFound) as caught:
        show.command("qwen9")
    assert "qwen3:8b" in str(caught.value.hint)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match="no such file"):
        show.command("./absent.gguf")


def test_a_name_of_the_store_wins_over_a_folder(
    store: Store,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "Modelfile").write_text("FROM tiny.gguf\nSYSTEM stored")
    create.command("mine", str(tmp_path / "Modelfile"), quiet=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "other.gguf").write_bytes(model.read_bytes())
    monkeypatch.chdir(tmp_path)
    show.command("mine", system=True)
    assert capsys.readouterr().out == "stored\n"
    show.command("./mine", system=True)
    assert capsys.readouterr().out == ""
