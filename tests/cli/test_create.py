"""`llm create`: progress, errors and what is stored."""

from __future__ import annotations

import functools
import io
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf_files import write_gguf
from mull.cli import create
from mull.cli.main import run_command
from mull.errors import CorruptFile, ModelfileError, UnsupportedArchitecture
from mull.registry.store import Store


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a GGUF of a supported architecture with one tensor."""
    tensors = {"a.weight": np.zeros((2, 32), dtype=np.float32)}
    return write_gguf(tmp_path / "tiny.gguf", {"general.file_type": 0, "llama.context_length": 4096}, tensors)


def test_steps_go_to_stderr(
    store: Store, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Modelfile").write_text("FROM ./tiny.gguf\nSYSTEM hi\nPARAMETER low_vram 1\n")
    create.command("one", str(tmp_path / "Modelfile"))
    out, err = capsys.readouterr()
    digests = [layer.digest for layer in store.resolve("one").layers]
    assert out == ""
    assert err.splitlines() == [
        "warning: parameter low_vram is deprecated",
        "gathering model components",
        *(f"creating new layer {digest}" for digest in digests),
        "writing manifest",
        "success",
    ]
    (tmp_path / "Modelfile").write_text("FROM one\nSYSTEM hello\n")
    create.command("two", str(tmp_path / "Modelfile"))
    assert f"using existing layer {digests[0]}" in capsys.readouterr().err.splitlines()


def test_the_config_describes_the_model(store: Store, model: Path, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text("FROM ./tiny.gguf")
    create.command("one", str(tmp_path / "Modelfile"), quiet=True)
    config = store.read(store.resolve("one")).config
    assert (config.model_format, config.model_family) == ("gguf", "llama")
    assert (config.model_type, config.file_type, config.context_length) == ("64", "F32", 4096)


def test_a_modelfile_from_standard_input(
    store: Store,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"FROM tiny.gguf\n")))
    create.command("one", "-", as_json=True, quiet=True)
    out, err = capsys.readouterr()
    made = json.loads(out)
    assert made["name"] == "one:latest"
    assert made["digest"] == store.find("one").digest
    assert [layer["size"] for layer in made["layers"]] == [model.stat().st_size]
    assert err == ""


def test_a_terminal_sees_the_bytes(
    store: Store,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "Modelfile").write_text("FROM ./tiny.gguf")
    ticks = itertools.count(step=10)
    timed = functools.partial(create.ProgressLine, clock=lambda: next(ticks))
    monkeypatch.setattr(create, "ProgressLine", timed)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    create.command("one", str(tmp_path / "Modelfile"))
    assert "\rcopying tiny.gguf 100%" in capsys.readouterr().err
    create.command("one", str(tmp_path / "Modelfile"), quiet=True)
    assert capsys.readouterr().err == ""


def test_the_command_line(
    store: Store,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Modelfile").write_text("FROM ./tiny.gguf\nNONSENSE 1\n")
    assert run_command(["create", "one", "--quiet"]) == 1
    assert "(line 2, column 1)" in capsys.readouterr().err
    (tmp_path / "Modelfile").write_text("FROM ./tiny.gguf\n")
    assert run_command(["create", "one", "--quiet"]) == 0
    assert [entry.name.short() for entry in store.list()] == ["one:latest"]


@pytest.mark.parametrize("modelfile", ["absent", "."])
def test_an_unreadable_modelfile(
    store: Store, tmp_path: Path, modelfile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelfileError, match="cannot read") as caught:
        create.command("one", str(tmp_path / modelfile))
    assert "-f" in str(caught.value.hint)
    assert capsys.readouterr().err == ""


def test_what_cannot_run_is_not_stored(store: Store, model: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "odd.gguf", {}, architecture="abacus")
    (tmp_path / "Modelfile").write_text("FROM odd.gguf")
    with pytest.raises(UnsupportedArchitecture, match="'abacus'"):
        create.command("one", str(tmp_path / "Modelfile"), quiet=True)
    (tmp_path / "cut.gguf").write_bytes(model.read_bytes()[:-1])
    (tmp_path / "Modelfile").write_text("FROM cut.gguf")
    with pytest.raises(CorruptFile):
        create.command("one", str(tmp_path / "Modelfile"), quiet=True)
    assert not store.list()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('TEMPLATE "{% for x in"', r"^TEMPLATE, line 1: .* \(line 2, column 1\)"),
        ("PARAMETER top_p 7", r"^top_p must be a number from 0 to 1, not 7.0 \(line 2, column 1\)"),
        ('PARAMETER stop ""', r"^stop must be texts, none of them empty"),
    ],
)
def test_what_would_fail_at_each_run_is_not_stored(
    store: Store, model: Path, tmp_path: Path, line: str, message: str
) -> None:
    (tmp_path / "Modelfile").write_text(f"FROM ./tiny.gguf\n{line}\n")
    with pytest.raises(ModelfileError, match=message):
        create.command("one", str(tmp_path / "Modelfile"), quiet=True)
    assert not store.list()
