"""Views give the blobs of a model with several files their names back."""

from __future__ import annotations

from pathlib import Path

import pytest
from mull.errors import StoreError
from mull.registry.manifest import CONFIG, FILE, MODEL, Layer, Manifest
from mull.registry.name import ModelName
from mull.registry.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", bundled=None)


def test_views_give_files_their_names_back(store: Store) -> None:
    with store.adding():
        layers = (
            Layer(FILE, *store.add_blob(b"{}"), title="config.json"),
            Layer(FILE, *store.add_blob(b"tensors"), title="model.safetensors"),
        )
        manifest = Manifest(Layer(CONFIG, *store.add_blob(b"{}")), layers)
        store.write_manifest(ModelName.parse("hf"), manifest)
    folder = store.model_path(store.resolve("hf"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "config.json": b"{}",
        "model.safetensors": b"tensors",
    }
    assert (folder / "model.safetensors").samefile(store.blob_path(layers[1].digest))
    (folder / "model.safetensors").unlink()
    store.copy("hf", "copy")
    assert store.model_path(store.resolve("copy")) == folder
    assert (folder / "model.safetensors").read_bytes() == b"tensors"
    store.remove("hf")
    assert folder.exists()
    store.remove("copy")
    assert not folder.exists()


def test_split_models_open_by_their_first_part(store: Store) -> None:
    titles = ("m-00002-of-00002.gguf", "m-00001-of-00002.gguf")
    with store.adding():
        layers = tuple(Layer(MODEL, *store.add_blob(title.encode()), title=title) for title in titles)
        manifest = Manifest(Layer(CONFIG, *store.add_blob(b"{}")), layers)
        store.write_manifest(ModelName.parse("split"), manifest)
    first = store.model_path(manifest)
    assert first.name == "m-00001-of-00002.gguf"
    assert (first.parent / titles[0]).read_bytes() == titles[0].encode()


def test_a_model_without_weights(store: Store) -> None:
    manifest = Manifest(Layer(CONFIG, *store.add_blob(b"{}")), ())
    with pytest.raises(StoreError, match="no weights"):
        store.model_path(manifest)
