"""Models in the folders of other programs: found by their names, used where they lie, linked instead of fetched."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_hub import COMMIT, FakeHub
from mull.errors import ModelNotFound
from mull.registry.foreign import HUGGING_FACE, LM_STUDIO, OLLAMA, foreign_models
from mull.registry.manifest import CONFIG, MODEL, SYSTEM, Layer, Manifest, ModelConfig
from mull.registry.name import ModelName
from mull.registry.store import Store
from mull.registry.target import find_target
from mull.settings import Remotes, Settings, load_settings

from .conftest import gguf

DATA = gguf(50_000)


def ollama_model(root: Path, name: str, weights: bytes = DATA) -> None:
    """Write a model as Ollama lays its store out."""
    store = Store(root, bundled=None)
    layers = (Layer(MODEL, *store.add_blob(weights)), Layer(SYSTEM, *store.add_blob(b"Be brief.")))
    config = Layer(CONFIG, *store.add_blob(ModelConfig(model_format="gguf").to_bytes(layers)))
    store.write_manifest(ModelName.parse(name), Manifest(config, layers))
    for path in root.glob(".*"):
        path.unlink()


def hub_download(hub: FakeHub, remotes: Remotes, repo: str) -> Path:
    """Have huggingface_hub fetch a repository into its cache."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repo, endpoint=hub.url, cache_dir=remotes.hf_cache, token=False))


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have huggingface_hub show nothing and report nobody."""
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@pytest.fixture
def settings(own: Store, tmp_path: Path) -> Settings:
    return load_settings({"HOME": str(tmp_path), "MULL_MODELS": str(own.root)})


def test_the_hubs_own_client_agrees_with_the_fake_hub(hub: FakeHub, remotes: Remotes) -> None:
    files = {"m-Q4_0.gguf": DATA, "config.json": b"{}", "sub/README.md": b"x"}
    hub.add("u/r", **files)
    folder = hub_download(hub, remotes, "u/r")
    assert folder.name == COMMIT
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == files


def test_hugging_faces_cache(hub: FakeHub, remotes: Remotes, settings: Settings) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA, "sub/m-Q8_0.gguf": gguf(60_000), "mmproj-F16.gguf": DATA})
    hub.add("u/st", **{"config.json": b"{}", "model.safetensors": DATA})
    hub.add("u/half", **{"config.json": b"{}", "README.md": b"x"})
    for repo in hub.repos:
        hub_download(hub, remotes, repo)
    found = {model.name: model for model in foreign_models(remotes)}
    assert set(found) == {"u/r:Q4_0", "u/r:Q8_0", "u/st"}
    assert {model.owner for model in found.values()} == {HUGGING_FACE}
    assert find_target("u/r:q4_0", settings, remotes).path.read_bytes() == DATA
    assert find_target("hf.co/u/r:Q8_0", settings, remotes).path.name == "m-Q8_0.gguf"
    assert find_target("u/st", settings, remotes).path.joinpath("config.json").read_bytes() == b"{}"
    with pytest.raises(ModelNotFound, match="not found") as caught:
        find_target("u/r:Q5_K_M", settings, remotes)
    assert "u/r:Q4_0" in str(caught.value.hint)


def test_a_download_that_has_not_ended_is_no_model(hub: FakeHub, remotes: Remotes) -> None:
    hub.add("u/r", **{f"m-Q4_0-0000{i}-of-00002.gguf": gguf(9000, i) for i in (1, 2)})
    folder = hub_download(hub, remotes, "u/r")
    (folder / "m-Q4_0-00002-of-00002.gguf").resolve().unlink()
    assert foreign_models(remotes) == []


def test_ollamas_store(remotes: Remotes, settings: Settings) -> None:
    ollama_model(remotes.ollama_models[0], "llama3.2")
    before = sorted(remotes.ollama_models[0].rglob("*"))
    (model,) = foreign_models(remotes)
    assert (model.name, model.owner) == ("llama3.2:latest", OLLAMA)
    target = find_target("llama3.2", settings, remotes)
    assert target.path.read_bytes() == DATA
    assert target.owner == OLLAMA
    assert target.contents is not None
    assert target.contents.system == "Be brief."
    assert sorted(remotes.ollama_models[0].rglob("*")) == before


def test_lm_studios_folder(remotes: Remotes, settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "lmstudio" / "maker" / "Model-GGUF"
    folder.mkdir(parents=True)
    (folder / "Model-Q4_K_M.gguf").write_bytes(DATA)
    remotes = replace(remotes, lmstudio_models=(tmp_path / "lmstudio",))
    (model,) = foreign_models(remotes)
    assert (model.name, model.owner) == ("maker/Model-GGUF:Q4_K_M", LM_STUDIO)
    assert find_target("maker/model-gguf", settings, remotes).path == folder / "Model-Q4_K_M.gguf"


def test_the_store_comes_first(own: Store, remotes: Remotes, settings: Settings) -> None:
    ollama_model(remotes.ollama_models[0], "m")
    ollama_model(own.root, "m", b"GGUF mine")
    assert find_target("m", settings, remotes).path.read_bytes() == b"GGUF mine"


def test_a_pull_links_what_another_program_has(
    hub: FakeHub, own: Store, remotes: Remotes, get: Callable[..., list]
) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    ollama_model(remotes.ollama_models[0], "other")
    events = get("u/r")
    assert any("is on this machine already" in event.status for event in events)
    assert hub.sent() == 0
    blob = remotes.ollama_models[0] / "blobs" / f"sha256-{hashlib.sha256(DATA).hexdigest()}"
    assert own.model_path(own.resolve("u/r")).samefile(blob)


def test_a_copy_that_was_changed_is_not_taken(
    hub: FakeHub, own: Store, remotes: Remotes, get: Callable[..., list]
) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub_download(hub, remotes, "u/r")
    copy = remotes.hf_cache / "models--u--r" / "blobs" / hashlib.sha256(DATA).hexdigest()
    os.chmod(copy, 0o644)
    copy.write_bytes(DATA[:-1] + b"?")
    get("u/r")
    assert own.model_path(own.resolve("u/r")).read_bytes() == DATA


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_that_may_not_be_read(remotes: Remotes) -> None:
    remotes.ollama_models[0].mkdir(parents=True)
    remotes.ollama_models[0].chmod(0)
    assert foreign_models(remotes) == []


def test_folders_that_are_files(remotes: Remotes, tmp_path: Path) -> None:
    for path in (*remotes.ollama_models, remotes.hf_cache):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert foreign_models(remotes) == []
