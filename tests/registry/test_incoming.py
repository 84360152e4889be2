"""Room in the store for files under way: empty, its own, gone afterwards, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from mull.errors import StoreError
from mull.registry.incoming import incoming


def test_two_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    with incoming(tmp_path / "store") as first:
        (first / "model.gguf").write_bytes(b"x")
        with incoming(tmp_path / "store") as second:
            assert not list(second.iterdir())
            assert (first / "model.gguf").exists()
    assert not first.exists()
    assert not second.exists()


def test_nothing_stays_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with incoming(tmp_path) as folder:
            (folder / "model.gguf").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list((tmp_path / "incoming").iterdir())


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    left = tmp_path / "incoming" / "left"
    left.mkdir(parents=True)
    (left / "model.gguf").write_bytes(b"x")
    with incoming(tmp_path):
        assert not left.exists()


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot make room in the model store"), incoming(tmp_path / "file"):
        pass
