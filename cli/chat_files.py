"""Where conversations are kept, and which of them a word means."""

from __future__ import annotations

from pathlib import Path

from ..settings import Settings

HISTORY_FILE, INPUT_FILE = "conversations.db", "typed"
_MOST_DIGITS = 19  # whatever is shorter is a number that SQLite counts to


def chat_folder(settings: Settings) -> Path:
    """Return the private folder of conversations and of what was typed."""
    return settings.state_dir / "chat"


def conversation_id(word: str) -> int | None:
    """Return the number of a conversation that a user wrote, None for what cannot be one."""
    return int(word) if word.isascii() and word.isdigit() and len(word) < _MOST_DIGITS else None
