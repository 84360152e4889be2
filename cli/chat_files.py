"""Where conversations are kept."""

from __future__ import annotations

from pathlib import Path

from ..settings import Settings

HISTORY_FILE, INPUT_FILE = "conversations.db", "typed"


def chat_folder(settings: Settings) -> Path:
    """Return the private folder of conversations and of what was typed."""
    return settings.state_dir / "chat"
