"""What MODEL means: a name, a file, a folder, or none of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from mull.errors import InvalidName, ModelNotFound
from mull.registry.target import find_target


def test_files_and_folders_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULL_MODELS", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.gguf").touch()
    (tmp_path / "folder").mkdir()
    assert find_target("a.gguf").path == Path("a.gguf")
    assert find_target("./folder").path == Path("folder")
    assert find_target("folder").path == Path("folder")


@pytest.mark.parametrize("path", ["missing.gguf", "./missing", "/nowhere/at/all", "~/nowhere.gguf"])
def test_a_path_to_nothing_is_refused_at_once(path: str) -> None:
    with pytest.raises(ModelNotFound, match="no such file or folder"):
        find_target(path)


def test_a_name_too_long_for_any_file_is_a_bad_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULL_MODELS", str(tmp_path))
    with pytest.raises(InvalidName):
        find_target("a" * 300)
