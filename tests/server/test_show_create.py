"""What `llm show --modelfile` prints makes the same model again: the manifests have one digest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from modelfile_corpus import VALID
from mull.errors import MullError
from mull.registry.bundled import Bundled
from mull.registry.create import Details, create
from mull.registry.manifest import Manifest
from mull.registry.modelfile import Modelfile
from mull.registry.name import ModelName
from mull.registry.store import Store
from mull.registry.target import Target
from mull.server.facts import Facts, check_modelfile

QWEN = Details("gguf", "qwen3", ("qwen3",), "2.4M", "Q8_0", 2048)
# What is read as Ollama reads it, and names no model that there is.
NOT_MADE = {
    "FROM: blanks inside", "FROM: tag", "FROM: absolute path", "FROM: several", "FROM: a hash in it",
}  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Files beside the Modelfile."""
    folder = tmp_path / "models"
    (folder / "hf").mkdir(parents=True)
    for name in ("model", "lora", "small", "big-00001-of-00002", "big-00002-of-00002"):
        (folder / f"{name}.gguf").write_bytes(b"GGUF " + name.encode())
    (folder / "mmproj.gguf").write_bytes(b"GGUF clip")
    index = json.dumps({"weight_map": {"a": "model.safetensors"}}).encode()
    for name, data in {
        "config.json": b"{}",
        "tokenizer.json": b"{ }",
        "model.safetensors": b"weights",
        "model.safetensors.index.json": index,
    }.items():
        (folder / "hf" / name).write_bytes(data)
    (folder / "peft").mkdir()
    (folder / "peft/adapter_config.json").write_bytes(b"{}")
    (folder / "peft/adapter_model.safetensors").write_bytes(b"lora")
    return folder


@pytest.fixture
def store(tmp_path: Path, base: Path) -> Store:
    """Hold the bundled model, `m`, and a parent that says a lot."""
    path = tmp_path / "package" / "pocket.gguf"
    path.parent.mkdir()
    path.write_bytes(b"GGUF pocket")
    store = Store(tmp_path / "store", bundled=Bundled(ModelName.parse("pocket"), path))
    make(store, base, "FROM model.gguf", "m")
    make(store, base, "FROM model.gguf\nSYSTEM old\nTEMPLATE {{ messages }}\nLICENSE MIT\nMESSAGE user old\n"
         "PARAMETER top_k 5\nPARAMETER stop x\nRENDERER r\nREQUIRES 1.0.0\nADAPTER lora.gguf", "parent")  # fmt: skip
    return store


def inspect(path: Path) -> Details:
    if path.is_dir():
        return Details("safetensors", "qwen3", ("qwen3",), "2.4M", "BF16", 2048)
    return Details("gguf", "clip") if b"clip" in path.read_bytes() else QWEN


def make(store: Store, base: Path, text: str | bytes, name: str = "made") -> Manifest:
    modelfile = Modelfile.parse(text)
    check_modelfile(modelfile)
    return create(store, name, modelfile, base=base, inspect=inspect)


def shown(store: Store, name: str) -> str:
    """Return what `llm show --modelfile` prints."""
    entry = store.find(name)
    target = Target(store.model_path(entry.manifest), store, entry, store.read(entry.manifest))
    return Facts(target, checkpoint=None).modelfile()  # type: ignore[arg-type]  # which is not asked for it


def check(store: Store, base: Path, text: str | bytes) -> None:
    manifest = make(store, base, text)
    text = shown(store, "made")
    make(store, Path("/"), text, "again")
    assert store.find("again").digest == store.find("made").digest, text
    assert shown(store, "again").splitlines()[3:] == text.splitlines()[3:]
    assert store.resolve("again") == manifest


@pytest.mark.parametrize("name", VALID)
def test_the_corpus(store: Store, base: Path, name: str) -> None:
    if name in NOT_MADE:
        with pytest.raises(MullError):
            make(store, base, VALID[name].text)
        return
    check(store, base, VALID[name].text)


@pytest.mark.parametrize(
    "text",
    [
        "FROM model.gguf",
        "FROM m",
        "FROM pocket\nSYSTEM hi",
        "FROM hf\nSYSTEM hi",
        "FROM big-00001-of-00002.gguf",
        "FROM mmproj.gguf\nFROM model.gguf",
        "FROM model.gguf\nADAPTER lora.gguf",
        "FROM model.gguf\nADAPTER peft\nSYSTEM a",
        "FROM model.gguf\nDRAFT small.gguf",
        "FROM model.gguf\nDRAFT pocket",
        "FROM model.gguf\nDRAFT hf",
        "FROM parent",
        "FROM parent\nSYSTEM new",
        'FROM parent\nSYSTEM ""\nTEMPLATE ""',
        "FROM parent\nPARAMETER stop y\nPARAMETER seed 1\nPARAMETER temperature 1e-05",
        "FROM parent\nMESSAGE user new\nMESSAGE assistant ok\nLICENSE BSD\nLICENSE MIT",
        "FROM parent\nPARSER p\nREQUIRES 2.0.0\nDRAFT small.gguf",
    ],
)
def test_of_every_kind(store: Store, base: Path, text: str) -> None:
    check(store, base, text)


def test_most_of_the_corpus_is_made() -> None:
    assert set(VALID) >= NOT_MADE
    assert len(VALID) - len(NOT_MADE) >= 80
