"""Creating models: from files, folders and names, with everything that a Modelfile can add."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from mull.errors import CorruptFile, ModelfileError, ModelNotFound, MullError, UnknownFormat
from mull.registry.bundled import Bundled
from mull.registry.create import Details, create
from mull.registry.files import find_model_files
from mull.registry.manifest import DRAFT, FILE, MODEL, PROJECTOR, Manifest
from mull.registry.modelfile import Modelfile
from mull.registry.name import ModelName
from mull.registry.store import Store

QWEN = Details("gguf", "qwen3", ("qwen3",), "2.4M", "Q8_0", 2048)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    path = tmp_path / "package" / "pocket.gguf"
    path.parent.mkdir()
    path.write_bytes(b"GGUF pocket")
    return Store(tmp_path / "store", bundled=Bundled(ModelName.parse("pocket"), path))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(b"GGUF weights")
    (folder / "lora.gguf").write_bytes(b"GGUF lora")
    return folder


def inspect(path: Path) -> Details:
    if path.is_dir():
        return replace(QWEN, format="safetensors", quantization="BF16")
    data = path.read_bytes()
    assert data.startswith(b"GGUF")
    return replace(QWEN, family="clip") if b"clip" in data else QWEN


def make(store: Store, base: Path, text: str, name: str = "m") -> Manifest:
    return create(store, name, Modelfile.parse(text), base=base, inspect=inspect)


def folder_of_safetensors(folder: Path) -> Path:
    folder.mkdir()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    for name, data in {
        "config.json": b"{}",
        "generation_config.json": b"{ }",
        "tokenizer.json": b"{  }",
        "tokenizer_config.json": b"{   }",
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00002.safetensors": b"one",
        "model-00002-of-00002.safetensors": b"two",
        "consolidated.safetensors": b"one and two",
        "pytorch_model.bin": b"pickle",
        "README.md": b"read me",
    }.items():
        (folder / name).write_bytes(data)
    return folder


def test_from_a_gguf(store: Store, base: Path) -> None:
    text = """
FROM ./model.gguf
ADAPTER lora.gguf
TEMPLATE "{{ messages }}"
SYSTEM Be brief.
PARAMETER temperature 0.2
PARAMETER stop a
PARAMETER stop b
MESSAGE user hi
MESSAGE assistant hello
LICENSE MIT
LICENSE Apache
REQUIRES v0.14.0
"""
    manifest = make(store, base, text)
    assert store.resolve("m") == manifest
    assert store.model_path(manifest).read_bytes() == b"GGUF weights"
    contents = store.read(manifest)
    assert contents.template == "{{ messages }}"
    assert contents.system == "Be brief."
    assert contents.parameters == {"temperature": 0.2, "stop": ["a", "b"]}
    assert contents.messages == (("user", "hi"), ("assistant", "hello"))
    assert contents.licenses == ("MIT", "Apache")
    assert [path.read_bytes() for path in contents.adapters] == [b"GGUF lora"]
    config = contents.config
    assert (config.model_format, config.model_family, config.model_type) == ("gguf", "qwen3", "2.4M")
    assert (config.file_type, config.context_length, config.requires) == ("Q8_0", 2048, "0.14.0")


def test_what_show_prints_creates_the_same_model(store: Store, base: Path) -> None:
    text = 'FROM model.gguf\nADAPTER lora.gguf\nTEMPLATE """a\n"b\n"""\nSYSTEM hi\nPARAMETER seed 7\n'
    text += "MESSAGE user hi\nLICENSE MIT\n"
    manifest = make(store, base, text)
    shown = Modelfile.from_contents(store.read(manifest), str(store.model_path(manifest))).render()
    assert make(store, Path("/"), shown, "again") == manifest


def test_from_a_name_inherits_and_overrides(store: Store, base: Path) -> None:
    make(store, base, "FROM model.gguf\nSYSTEM old\nTEMPLATE {{ messages }}\nPARAMETER top_k 5\n"
         "PARAMETER stop x\nMESSAGE user old\nLICENSE MIT\n", "parent")  # fmt: skip
    manifest = make(store, base, "FROM Parent\nSYSTEM new\nPARAMETER stop y\nPARAMETER seed 1\nLICENSE BSD\n")
    contents = store.read(manifest)
    assert (contents.system, contents.template) == ("new", "{{ messages }}")
    assert contents.parameters == {"top_k": 5, "stop": ["y"], "seed": 1}
    assert contents.messages == (("user", "old"),)
    assert contents.licenses == ("MIT", "BSD")
    assert contents.config.model_family == "qwen3"
    assert manifest.of(MODEL)[0].from_name is None
    store.remove("parent")
    assert store.model_path(store.resolve("m")).read_bytes() == b"GGUF weights"


def test_an_empty_text_removes_what_was_inherited(store: Store, base: Path) -> None:
    make(store, base, "FROM model.gguf\nSYSTEM old\n", "parent")
    assert store.read(make(store, base, 'FROM parent\nSYSTEM ""\n')).system is None


def test_a_model_made_from_itself(store: Store, base: Path) -> None:
    make(store, base, "FROM model.gguf\nSYSTEM one\n")
    assert store.read(make(store, base, "FROM m\nSYSTEM two\n")).system == "two"
    assert store.read(store.resolve("m")).system == "two"


def test_from_the_bundled_model(store: Store, base: Path) -> None:
    manifest = make(store, base, "FROM pocket\nSYSTEM hi\n", "mine")
    assert store.read(manifest).config.model_family == "qwen3"
    assert store.model_path(manifest).read_bytes() == b"GGUF pocket"
    assert store.root in store.model_path(manifest).parents
    assert [entry.name.short() for entry in store.list()] == ["mine:latest", "pocket:latest"]


def test_from_a_split_gguf(store: Store, base: Path) -> None:
    for number in (1, 2, 3):
        (base / f"big-0000{number}-of-00003.gguf").write_bytes(b"GGUF%d" % number)
    manifest = make(store, base, "FROM big-00002-of-00003.gguf\nFROM big-00003-of-00003.gguf")
    first = store.model_path(manifest)
    assert first.name == "big-00001-of-00003.gguf"
    assert sorted(path.name for path in first.parent.iterdir()) == [
        f"big-0000{number}-of-00003.gguf" for number in (1, 2, 3)
    ]
    (base / "big-00002-of-00003.gguf").unlink()
    with pytest.raises(CorruptFile, match=r"big-00002-of-00003\.gguf is missing"):
        make(store, base, "FROM big-00001-of-00003.gguf")


def test_from_a_folder_of_safetensors(store: Store, base: Path) -> None:
    folder = folder_of_safetensors(base / "hf")
    seen: list[str] = []
    manifest = create(
        store,
        "m",
        Modelfile.parse("FROM hf"),
        base=base,
        inspect=inspect,
        progress=lambda name, done, total: seen.append(name),
    )
    assert (
        sorted(str(layer.title) for layer in manifest.of(FILE))
        == sorted(set(seen))
        == [
            "config.json",
            "generation_config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    )
    view = store.model_path(manifest)
    assert (view / "model-00002-of-00002.safetensors").read_bytes() == b"two"
    assert store.read(manifest).config.model_format == "safetensors"
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CorruptFile, match="model-00002-of-00002"):
        make(store, base, "FROM ./hf")


def test_links_in_a_folder_are_followed(store: Store, base: Path) -> None:
    """The Hub's cache is made of such folders."""
    (base / "cache").mkdir()
    (base / "cache" / "0a1b").write_bytes(b"tensors")
    (base / "snapshot").mkdir()
    (base / "snapshot" / "model.safetensors").symlink_to("../cache/0a1b")
    (base / "snapshot" / "config.json").write_bytes(b"{}")
    view = store.model_path(make(store, base, "FROM snapshot"))
    assert (view / "model.safetensors").read_bytes() == b"tensors"


def test_projector_and_draft(store: Store, base: Path) -> None:
    (base / "mmproj.gguf").write_bytes(b"GGUF clip")
    (base / "small.gguf").write_bytes(b"GGUF small")
    manifest = make(store, base, "FROM mmproj.gguf\nFROM model.gguf\nDRAFT small.gguf")
    assert [len(manifest.of(kind)) for kind in (MODEL, PROJECTOR, DRAFT)] == [1, 1, 1]
    assert store.read(manifest).drafts[0].read_bytes() == b"GGUF small"
    manifest = make(store, base, "FROM model.gguf\nDRAFT pocket")
    assert store.read(manifest).drafts[0].read_bytes() == b"GGUF pocket"


def test_an_adapter_folder(store: Store, base: Path) -> None:
    (base / "peft").mkdir()
    (base / "peft/adapter_config.json").write_bytes(b"{}")
    (base / "peft/adapter_model.safetensors").write_bytes(b"lora")
    (folder,) = store.read(make(store, base, "FROM model.gguf\nADAPTER peft")).adapters
    assert (folder / "adapter_model.safetensors").read_bytes() == b"lora"


def test_paths(store: Store, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(base))
    for path in ("~/model.gguf", str(base / "model.gguf"), "../models/model.gguf", "model.gguf"):
        assert store.model_path(make(store, base, f"FROM {path}")).read_bytes() == b"GGUF weights"
    (base / "spaced name.gguf").write_bytes(b"GGUF spaced")
    assert make(store, base, 'FROM "spaced name.gguf"').of(MODEL)
    blob = store.model_path(store.resolve("m"))
    assert make(store, base, f"FROM {blob}", "from-blob").of(MODEL)


def test_a_folder_that_is_no_model_does_not_hide_a_name(store: Store, base: Path) -> None:
    (base / "pocket").mkdir()
    assert store.model_path(make(store, base, "FROM pocket")).read_bytes() == b"GGUF pocket"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("FROM ./absent.gguf", ModelfileError, "no such file or folder: .*absent.gguf .line 1, column 1"),
        ("FROM absent.gguf", ModelfileError, "no such file or folder"),
        ("FROM pokcet", ModelNotFound, "model 'pokcet' not found"),
        ("FROM a//b", ModelfileError, "neither a file nor the name of a model"),
        ("FROM ~nobody-here/x.gguf", ModelfileError, "no such user"),
        ("FROM text.gguf", UnknownFormat, "is not a GGUF file"),
        ("FROM ./torch.bin", UnknownFormat, "is not a GGUF file"),
        ("FROM ./pickled", UnknownFormat, "holds no .safetensors"),
        ("FROM ./lfs", UnknownFormat, "Git LFS pointer"),
        ("FROM ./bare", CorruptFile, "has no config.json"),
        ("FROM .", UnknownFormat, "several models"),
        ("FROM model.gguf\nFROM lora.gguf", ModelfileError, "this is the second .line 2"),
        ("FROM model.gguf\nADAPTER absent", ModelfileError, "ADAPTER: no such file or folder"),
        ("FROM model.gguf\nADAPTER text.gguf", ModelfileError, "neither GGUF nor safetensors"),
        ("FROM model.gguf\nADAPTER bare", ModelfileError, "has no adapter_config.json"),
        (
            "FROM model.gguf\nDRAFT ./model.gguf",
            ModelfileError,
            "DRAFT must not reference the same local path",
        ),
    ],
)
def test_refused(store: Store, base: Path, text: str, error: type[MullError], message: str) -> None:
    (base / "text.gguf").write_text("not a model")
    (base / "torch.bin").write_bytes(b"PK")
    (base / "pickled").mkdir()
    (base / "pickled/pytorch_model.bin").write_bytes(b"PK")
    for name in ("lfs", "bare"):
        (base / name).mkdir()
    (base / "lfs/config.json").write_bytes(b"{}")
    (base / "lfs/model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    )
    (base / "bare/model.safetensors").write_bytes(b"tensors")
    with pytest.raises(error, match=message) as caught:
        make(store, base, text)
    assert "\n" not in caught.value.message
    assert [entry.name.short() for entry in store.list()] == ["pocket:latest"]
    assert not list((store.root / "blobs").glob("*"))


def test_an_unknown_name_gets_the_nearest(store: Store, base: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        make(store, base, "FROM pokcet")
    assert caught.value.hint == "did you mean pocket:latest?"


def test_what_inspect_refuses_is_not_stored(store: Store, base: Path) -> None:
    make(store, base, "FROM model.gguf\nSYSTEM kept")

    def refuse(path: Path) -> Details:
        raise CorruptFile(f"{path} is truncated")

    with pytest.raises(CorruptFile, match="truncated"):
        create(store, "m", Modelfile.parse("FROM lora.gguf"), base=base, inspect=refuse)
    assert store.read(store.resolve("m")).system == "kept"


def test_the_users_file_stays_as_it_is(store: Store, base: Path) -> None:
    before = os.stat(base / "model.gguf")
    make(store, base, "FROM model.gguf")
    store.remove("m")
    after = os.stat(base / "model.gguf")
    assert (before.st_ino, before.st_mtime_ns, before.st_mode) == (
        after.st_ino,
        after.st_mtime_ns,
        after.st_mode,
    )
    assert (base / "model.gguf").read_bytes() == b"GGUF weights"


def test_one_weight_file_where_a_folder_holds_it_twice(base: Path) -> None:
    folder = base / "twice"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "consolidated.safetensors"):
        (folder / name).write_bytes(b"{}")
    assert [path.name for path in find_model_files(folder).files] == ["model.safetensors", "config.json"]
