"""The store: adding, naming, listing, copying, removing, and saying clearly what is wrong."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mull.errors import DiskFull, InvalidName, ModelNotFound, NotSupported, StoreError
from mull.registry import disk
from mull.registry.bundled import Bundled
from mull.registry.manifest import CONFIG, MODEL, SYSTEM, Layer, Manifest, ModelConfig
from mull.registry.name import ModelName
from mull.registry.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", bundled=None)


@pytest.fixture
def bundled(tmp_path: Path) -> Bundled:
    path = tmp_path / "package" / "pocket.gguf"
    path.parent.mkdir()
    path.write_bytes(b"GGUF pocket")
    return Bundled(ModelName.parse("pocket"), path)


def add(store: Store, name: str, weights: bytes = b"weights", *, system: str = "Be brief.") -> Manifest:
    with store.adding() as doomed:
        layers = (
            Layer(MODEL, *store.add_blob(weights)),
            Layer(SYSTEM, *store.add_blob(system.encode())),
        )
        config = Layer(CONFIG, *store.add_blob(ModelConfig("gguf", "qwen3").to_bytes(layers)))
        doomed |= {layer.digest for layer in (config, *layers)}
        manifest = Manifest(config, layers)
        doomed |= store.write_manifest(ModelName.parse(name), manifest)
    return manifest


def names(store: Store) -> list[str]:
    return [entry.name.short() for entry in store.list()]


def blobs(store: Store) -> set[str]:
    folder = store.root / "blobs"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_an_empty_store(store: Store) -> None:
    assert store.list() == ()
    with pytest.raises(ModelNotFound, match="model 'x' not found"):
        store.resolve("x")
    with pytest.raises(ModelNotFound):
        store.remove("x")
    assert store.prune() == ()
    assert not store.root.exists()


def test_layout_and_round_trip(store: Store) -> None:
    manifest = add(store, "a")
    assert (store.root / "manifests/registry.ollama.ai/library/a/latest").read_bytes() == manifest.to_bytes()
    digest = "sha256:" + hashlib.sha256(b"weights").hexdigest()
    assert store.blob_path(digest) == store.root / "blobs" / digest.replace(":", "-")
    assert store.resolve("a") == manifest
    entry = store.find("A:Latest")
    assert entry.name.short() == "a:latest"
    assert entry.digest == "sha256:" + hashlib.sha256(manifest.to_bytes()).hexdigest()
    assert entry.size == manifest.size
    assert store.model_path(manifest).read_bytes() == b"weights"
    contents = store.read(manifest)
    assert (contents.system, contents.template, contents.config.model_family) == ("Be brief.", None, "qwen3")


def test_newest_first(store: Store) -> None:
    for age, name in enumerate(("old", "me/older", "hf.co/me/oldest:q8")):
        add(store, name)
        path = store.root / "manifests" / Path(*ModelName.parse(name).parts())
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    assert names(store) == ["old:latest", "me/older:latest", "hf.co/me/oldest:q8"]
    assert store.list()[0].modified.timestamp() == 1_000_000


def test_the_first_spelling_stays(store: Store) -> None:
    add(store, "Llama")
    add(store, "llama", b"other")
    assert names(store) == ["Llama:latest"]
    assert store.model_path(store.resolve("LLAMA")).read_bytes() == b"other"
    assert len(blobs(store)) == 3


def test_remove_keeps_shared_blobs(store: Store) -> None:
    add(store, "a", system="one")
    add(store, "b", system="two")
    before = blobs(store)
    store.remove("a")
    assert names(store) == ["b:latest"]
    assert len(before - blobs(store)) == 2
    store.resolve("b")
    store.remove("B")
    assert blobs(store) == set()
    assert list((store.root / "manifests").iterdir()) == []


def test_replacing_drops_the_old_blobs(store: Store) -> None:
    add(store, "a", b"one")
    add(store, "a", b"two")
    assert len(blobs(store)) == 3
    assert store.model_path(store.resolve("a")).read_bytes() == b"two"


def test_copy(store: Store) -> None:
    manifest = add(store, "a")
    add(store, "b", b"overwritten")
    store.copy("a", "b")
    store.copy("a", "a")
    assert store.resolve("b") == manifest
    assert len(blobs(store)) == 3
    store.remove("a")
    assert store.resolve("b") == manifest
    with pytest.raises(ModelNotFound, match="model 'a' not found"):
        store.copy("a", "c")
    with pytest.raises(InvalidName):
        store.copy("b", "../c")


def test_nearest_names(store: Store, bundled: Bundled) -> None:
    store.bundled = bundled
    for name in ("qwen3:0.6b", "qwen3:4b", "llama3.2", "me/mistral"):
        add(store, name)
    assert store.nearest("qwen9")[0].startswith("qwen3:")
    assert store.nearest("pokcet") == ("pocket:latest",)
    assert store.nearest("mistrl") == ("me/mistral:latest",)
    assert store.nearest("lama3.2:latest")[0] == "llama3.2:latest"
    assert store.nearest("zzz") == ()
    with pytest.raises(ModelNotFound) as caught:
        store.resolve("pokcet")
    assert caught.value.hint == "did you mean pocket:latest?"


def test_the_bundled_model(store: Store, bundled: Bundled) -> None:
    store.bundled = bundled
    assert names(store) == ["pocket:latest"]
    entry = store.find("Pocket")
    assert entry.bundled
    assert store.model_path(entry.manifest) == bundled.path
    assert store.read(entry.manifest).config.model_format == "gguf"
    with pytest.raises(NotSupported, match="cannot be removed") as caught:
        store.remove("pocket")
    assert caught.value.hint
    store.copy("pocket", "mine")
    mine = store.resolve("mine")
    assert store.model_path(mine) != bundled.path
    assert not store.model_path(mine).samefile(bundled.path)
    assert store.model_path(mine).read_bytes() == b"GGUF pocket"
    bundled.path.unlink()
    assert names(store) == ["mine:latest"]
    store.resolve("mine")


def test_my_own_model_hides_the_bundled_one(store: Store, bundled: Bundled) -> None:
    store.bundled = bundled
    add(store, "pocket", b"my own")
    assert [entry.bundled for entry in store.list()] == [False]
    assert store.model_path(store.resolve("pocket")).read_bytes() == b"my own"
    store.remove("pocket")
    assert [entry.bundled for entry in store.list()] == [True]


def test_a_file_is_never_twice_on_the_disk(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(os.urandom(100_000))
    seen: list[tuple[int, int]] = []
    digest, size = store.add_blob_from_file(source, lambda done, total: seen.append((done, total)))
    assert (digest, size) == ("sha256:" + hashlib.sha256(source.read_bytes()).hexdigest(), 100_000)
    assert seen[-1] == (100_000, 100_000)
    shared = store.blob_path(digest).samefile(source)
    assert shared or reflinks(tmp_path)
    again = store.add_blob_from_file(source)
    assert again == (digest, size)
    assert len(blobs(store)) == 1


def reflinks(folder: Path) -> bool:
    source = folder / "probe"
    source.write_bytes(b"x" * 8192)
    return disk._reflink(source, folder / "clone")


def test_copies_where_links_are_impossible(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(b"x" * 5000)
    monkeypatch.setattr(disk, "_reflink", lambda source, target: False)
    monkeypatch.setattr(os, "link", refuse(errno.EXDEV))
    digest, size = store.add_blob_from_file(source)
    assert size == 5000
    assert not store.blob_path(digest).samefile(source)
    assert store.blob_path(digest).read_bytes() == source.read_bytes()
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 4999)
    with pytest.raises(DiskFull, match="5000 bytes, and only 4999 are free"):
        store.add_blob_from_file(source)
    assert len(blobs(store)) == 1


def refuse(code: int) -> object:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_disk_that_fills_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "a")
    before = blobs(store)
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(DiskFull, match="no space left"):
        add(store, "b", b"more")
    monkeypatch.undo()
    assert blobs(store) == before
    assert names(store) == ["a:latest"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_creation_leaves_nothing(
    store: Store, tmp_path: Path, error: type[BaseException]
) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(b"x" * 5000)

    def interrupt(done: int, total: int) -> None:
        raise error

    def create() -> None:
        with store.adding() as doomed:
            doomed.add(store.add_blob(b"first")[0])
            store.add_blob_from_file(source, interrupt)

    with pytest.raises(error):
        create()
    assert blobs(store) == set()
    assert source.read_bytes() == b"x" * 5000


def test_a_manifest_needs_its_blobs(store: Store) -> None:
    manifest = add(store, "a")
    store.blob_path(manifest.layers[0].digest).unlink()
    with pytest.raises(StoreError, match=f"blob {manifest.layers[0].digest} is missing"):
        store.resolve("a")
    with pytest.raises(StoreError, match="is missing"):
        store.write_manifest(ModelName.parse("b"), manifest)
    assert names(store) == ["a:latest"]
    store.remove("a")
    assert names(store) == []


def test_a_linked_file_that_was_edited_is_noticed(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(b"x" * 5000)
    with store.adding():
        layer = Layer(MODEL, *store.add_blob_from_file(source))
        config = Layer(CONFIG, *store.add_blob(b"{}"))
        store.write_manifest(ModelName.parse("a"), Manifest(config, (layer,)))
    if not store.blob_path(layer.digest).samefile(source):
        pytest.skip("this file system makes reflinks")
    later = time.time() + 10
    os.utime(source, (later, later))
    store.resolve("a")
    with open(source, "r+b") as file:
        file.write(b"y")
    os.utime(source, (later, later))
    with pytest.raises(StoreError, match="was changed after the model was created"):
        store.resolve("a")
    source.write_bytes(b"short")
    with pytest.raises(StoreError, match="was changed"):
        store.resolve("a")


def test_a_damaged_manifest_harms_no_other(store: Store) -> None:
    manifest = add(store, "a", system="one")
    add(store, "b", system="two")
    path = store.root / "manifests/registry.ollama.ai/library/a/latest"
    path.write_bytes(manifest.to_bytes()[:-2])
    problems: list[StoreError] = []
    assert [entry.name.short() for entry in store.list(problems.append)] == ["b:latest"]
    assert "'a:latest' is damaged" in problems[0].message
    with pytest.raises(StoreError, match="is damaged") as caught:
        store.resolve("a")
    assert caught.value.hint == "llm rm a:latest"
    store.prune(grace=0)
    assert store.blob_path(manifest.layers[1].digest).exists()
    store.remove("a")
    assert names(store) == ["b:latest"]
    assert not store.blob_path(manifest.layers[1].digest).exists()


def test_strange_files_are_ignored(store: Store) -> None:
    add(store, "a")
    (store.root / "manifests/.DS_Store").write_bytes(b"")
    (store.root / "manifests/registry.ollama.ai/library/a/.tmp-1-2").write_bytes(b"{")
    (store.root / "blobs/notes.txt").write_bytes(b"mine")
    (store.root / "views").mkdir()
    (store.root / "views/file").write_bytes(b"mine")
    assert names(store) == ["a:latest"]
    store.prune(grace=0)
    assert (store.root / "blobs/notes.txt").exists()
    assert not (store.root / "manifests/registry.ollama.ai/library/a/.tmp-1-2").exists()


def test_orphans_go_after_a_while(store: Store) -> None:
    add(store, "a")
    digest, _ = store.add_blob(b"uploaded, not yet named")
    assert store.prune() == ()
    assert store.prune(grace=0) == (digest,)
    store.resolve("a")


def test_what_a_killed_process_left_goes_before_the_next_adds(store: Store) -> None:
    add(store, "a")
    leftover = store.root / "blobs/.tmp-1-2"
    leftover.write_bytes(b"half")
    with store.adding():
        assert not leftover.exists()


def test_nothing_is_pruned_while_another_adds(store: Store) -> None:
    digest, _ = store.add_blob(b"orphan")
    other = Store(store.root, bundled=None)
    with store.adding():
        living = store.root / "blobs/.tmp-1-2"
        living.write_bytes(b"half")
        assert other.prune([digest], wait=False) == ()
        assert living.exists()
    assert other.prune([digest], wait=False) == (digest,)


@pytest.mark.parametrize("broken", ["file", "blobs"])
def test_a_root_that_is_no_store(tmp_path: Path, broken: str) -> None:
    store = Store(tmp_path / "root", bundled=None)
    if broken == "file":
        store.root.write_bytes(b"")
        with pytest.raises(StoreError, match="cannot read the model store: not a directory"):
            store.list()
        with pytest.raises(StoreError):
            store.resolve("a")
    else:
        store.root.mkdir()
        (store.root / "blobs").write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        add(store, "a")
    assert "\n" not in caught.value.message


def test_permission_denied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "a")
    monkeypatch.setattr(os, "scandir", refuse(errno.EACCES))
    with pytest.raises(StoreError, match="cannot read the model store: permission denied"):
        store.list()


def test_only_regular_files_become_blobs(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a regular file"):
        store.add_blob_from_file(tmp_path)
    with pytest.raises(StoreError, match="no such file"):
        store.add_blob_from_file(tmp_path / "absent")
    target = tmp_path / "real"
    target.write_bytes(b"data")
    (tmp_path / "link").symlink_to(target)
    digest, _ = store.add_blob_from_file(tmp_path / "link")
    assert not store.blob_path(digest).is_symlink()
    with pytest.raises(StoreError, match="not a digest"):
        store.blob_path("sha256:../../x")


def test_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; import mull.registry.create; "
        "print([m for m in ('torch', 'numpy', 'gguf', 'jinja2', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
