"""Opening by content: what is a model, and what is said of files that are not."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from gguf_files import write_gguf
from mull.errors import CheckpointError, CorruptFile, ModelNotFound, UnknownFormat
from mull.models.checkpoint.open import open_checkpoint


def test_a_gguf_file_of_any_name(tmp_path):
    path = write_gguf(tmp_path / "model.gguf").rename(tmp_path / "sha256-0123")
    assert open_checkpoint(path).format == "gguf"


def test_a_folder_with_one_gguf_file(tmp_path):
    write_gguf(tmp_path / "model.gguf")
    assert open_checkpoint(tmp_path).format == "gguf"


def test_a_folder_with_several_gguf_files(tmp_path):
    write_gguf(tmp_path / "a.gguf")
    write_gguf(tmp_path / "b.gguf")
    with pytest.raises(UnknownFormat, match="2 GGUF models") as raised:
        open_checkpoint(tmp_path)
    assert "a.gguf" in (raised.value.hint or "")


def test_a_folder_whose_only_part_is_not_the_first(tmp_path):
    write_gguf(tmp_path / "model-00002-of-00002.gguf")
    with pytest.raises(ModelNotFound, match="model-00001-of-00002"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["absent.gguf", "absent/absent", "nul\0nul"])
def test_no_such_file(tmp_path, name):
    with pytest.raises(ModelNotFound, match=r"no such file|not the name"):
        open_checkpoint(tmp_path / name)


def test_a_folder_of_pickles_is_never_read(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(UnknownFormat, match="pickle") as raised:
        open_checkpoint(tmp_path)
    assert "safetensors" in (raised.value.hint or "")


def test_an_empty_folder(tmp_path):
    with pytest.raises(UnknownFormat, match="folder without"):
        open_checkpoint(tmp_path)


LOOKALIKES = {
    "empty": (b"", "empty"),
    "page": (b"\n<!DOCTYPE html><html>404</html>", "web page"),
    "page without doctype": (b"<HTML><body>", "web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
    "pickle": (b"\x80\x02ctorch", "pickle"),
    "ggml": (b"lmgg\0\0\0\0", "old GGML"),
    "ggjt": (b"tjgg\3\0\0\0", "GGJT"),
    "gzip": (b"\x1f\x8b\x08", "gzip"),
    "text": (b"hello", "neither a GGUF file"),
    "short": (b"GG", "neither a GGUF file"),
}


@pytest.mark.parametrize("ending", [".gguf", ""])
@pytest.mark.parametrize("case", LOOKALIKES)
def test_files_that_are_no_models(tmp_path, case, ending):
    content, message = LOOKALIKES[case]
    path = tmp_path / f"model{ending}"
    path.write_bytes(content)
    with pytest.raises(UnknownFormat, match=message) as raised:
        open_checkpoint(path)
    assert str(path) in str(raised.value)


def test_a_download_error_named_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"<!doctype html>")
    with pytest.raises(UnknownFormat, match="web page"):
        open_checkpoint(path)


def test_a_zip_of_a_pickle(tmp_path):
    path = tmp_path / "model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"\x80\x02.")
    with pytest.raises(UnknownFormat, match="zip"):
        open_checkpoint(path)


def test_a_lone_magic(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"GGUF")
    with pytest.raises(CorruptFile, match="version"):
        open_checkpoint(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnknownFormat, match="neither a file nor a folder"):
        open_checkpoint(tmp_path / "pipe")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(tmp_path):
    path = write_gguf(tmp_path / "model.gguf")
    path.chmod(0)
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_checkpoint(path)


def test_relative_paths(tmp_path, monkeypatch):
    write_gguf(tmp_path / "model.gguf")
    monkeypatch.chdir(tmp_path)
    assert open_checkpoint(Path("model.gguf")).architecture == "llama"
