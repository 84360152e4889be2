"""`llm list`, `llm cp` and `llm rm`: names in the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mull.cli import cp, rm
from mull.cli import list as list_
from mull.cli.main import run_command
from mull.errors import InvalidName, ModelNotFound, NotSupported
from mull.registry.bundled import POCKET, Bundled
from mull.registry.manifest import CONFIG, MODEL, Layer, Manifest, ModelConfig
from mull.registry.name import ModelName
from mull.registry.store import Store


def add(store: Store, name: str, size: int, modified: int) -> None:
    """Store a model of random bytes under a name."""
    config = ModelConfig(
        model_format="gguf", model_family="llama", model_type="8B", file_type="Q4_0"
    ).to_bytes()
    with store.adding():
        layers = [
            Layer(kind, *store.add_blob(data)) for kind, data in ((CONFIG, config), (MODEL, b"x" * size))
        ]
        store.write_manifest(ModelName.parse(name), Manifest(layers[0], (layers[1],)))
    path = store.root.joinpath("manifests", *ModelName.parse(name).parts())
    os.utime(path, (modified, modified))


def test_the_newest_comes_first_and_a_prefix_filters(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    add(store, "old:8b", 1_000_000, 1_000_000_000)
    add(store, "Newer", 2_500_000, 1_100_000_000)
    add(store, "olive", 10, 1_050_000_000)
    list_.command()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert [line.split()[0] for line in lines[1:]] == ["Newer:latest", "olive:latest", "old:8b"]
    assert "    2.5 MB    " in lines[1]
    assert lines[1].endswith(" years ago")
    assert lines[0].index("SIZE") == lines[1].index("2.5 MB")
    list_.command("OL", quiet=True)
    assert capsys.readouterr().out.split() == ["olive:latest", "old:8b"]


def test_json_says_what_each_model_is(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add(store, "old:8b", 1000, 1_000_000_000)
    list_.command(as_json=True)
    (model,) = json.loads(capsys.readouterr().out)
    assert model["name"] == "old:8b"
    assert model["digest"] == "sha256:" + store.find("old:8b").digest.removeprefix("sha256:")
    assert model["digest"].removeprefix("sha256:").startswith(model["id"])
    assert model["modified"] == "2001-09-09T01:46:40.000000+00:00"
    assert model["details"] == {
        "format": "gguf",
        "family": "llama",
        "parameter_size": "8B",
        "quantization_level": "Q4_0",
    }


def test_a_damaged_manifest_is_a_warning(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add(store, "good", 10, 1_000_000_000)
    add(store, "bad", 10, 1_000_000_000)
    store.root.joinpath("manifests", *ModelName.parse("bad").parts()).write_text("{")
    list_.command(quiet=True)
    out, err = capsys.readouterr()
    assert out == "good:latest\n"
    assert err.startswith("warning: 'bad:latest'")


def test_copy_and_remove(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add(store, "one", 10, 1_000_000_000)
    cp.command("one", "two:b")
    assert capsys.readouterr().out == "copied 'one' to 'two:b'\n"
    rm.command(["one", "two:b"])
    assert capsys.readouterr().out == "deleted 'one'\ndeleted 'two:b'\n"
    assert not store.list()
    with pytest.raises(ModelNotFound, match="'one' not found"):
        cp.command("one", "two")


def test_a_damaged_model_can_be_removed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add(store, "manifest", 10, 1_000_000_000)
    store.root.joinpath("manifests", *ModelName.parse("manifest").parts()).write_text("{")
    add(store, "blob", 20, 1_000_000_000)
    for blob in store.root.joinpath("blobs").iterdir():
        blob.unlink()
    rm.command(["manifest", "blob"])
    assert capsys.readouterr().out == "deleted 'manifest'\ndeleted 'blob'\n"
    assert not list(store.root.glob("manifests/*/*/*/*"))


def test_the_bundled_model_in_a_list_removes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bundled, "exists", lambda self: True)
    add(store, "one", 10, 1_000_000_000)
    with pytest.raises(NotSupported, match="cannot be removed"):
        rm.command(["one", "pocket"])
    assert store.find("one")


def test_an_invalid_name_removes_nothing(store: Store) -> None:
    add(store, "one", 10, 1_000_000_000)
    with pytest.raises(InvalidName):
        rm.command(["one", "../two"])
    assert len(store.list()) == 1


def test_the_bundled_model_is_listed_until_a_user_takes_its_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pocket.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(POCKET, "path", tmp_path / "pocket.gguf")
    monkeypatch.setattr(Bundled, "exists", lambda self: True)
    list_.command(as_json=True)
    assert [model["bundled"] for model in json.loads(capsys.readouterr().out)] == [True]
    add(store, "pocket", 10, 1_000_000_000)
    list_.command(as_json=True)
    assert [model["bundled"] for model in json.loads(capsys.readouterr().out)] == [False]


def test_the_command_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add(store, "one", 10, 1_000_000_000)
    assert run_command(["cp", "one", "two"]) == 0
    assert run_command(["rm", "one", "-q"]) == 0
    assert run_command(["ls", "-q"]) == 0
    assert capsys.readouterr().out == "copied 'one' to 'two'\ntwo:latest\n"
    assert run_command(["rm", "oen"]) == 1
    assert "model 'oen' not found" in capsys.readouterr().err


def test_listing_imports_nothing_heavy(store: Store) -> None:
    add(store, "one", 10, 1_000_000_000)
    heavy = ["torch", "numpy", "gguf", "tokenizers", "jinja2", "huggingface_hub", "rich.table"]
    code = (
        "import sys; from mull.cli.main import run_command; assert run_command(['list']) == 0; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "one:latest" in done.stdout
