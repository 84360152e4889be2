"""A model store of their own for the commands under test."""

from __future__ import annotations

from pathlib import Path

import pytest
from mull.registry.bundled import Bundled
from mull.registry.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an empty store that the commands use, without the bundled model."""
    monkeypatch.setenv("MULL_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(Bundled, "exists", lambda self: False)
    return Store(tmp_path / "models")
