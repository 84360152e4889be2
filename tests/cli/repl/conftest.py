"""A chat with a scripted model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_chat import FakeModel, Talk


@pytest.fixture
def talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Talk]:
    """Return what makes a chat, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MULL_MODELS", str(tmp_path / "models"))

    def make(*replies, **how) -> Talk:
        return Talk(FakeModel(*replies), tmp_path, **how)

    return make
