"""What was typed before, in a private file of a line per entry."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.history import History

_KEPT = 1000
_LONGEST = 65_536  # characters; a longer text is not worth typing again


class InputHistory(History):
    """The lines of earlier chats and of this one. Lines that cannot be read, and a file that cannot, count as none."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.enabled = True

    def load_history_strings(self) -> Iterable[str]:
        """Return what was typed, the newest first."""
        entries = self._read()
        if len(entries) > 2 * _KEPT:
            self._rewrite(entries[-_KEPT:])
        return list(reversed(entries[-_KEPT:]))

    def append_string(self, string: str) -> None:
        """Remember a text, unless that was switched off."""
        if self.enabled and string.strip() and len(string) <= _LONGEST:
            super().append_string(string)

    def store_string(self, string: str) -> None:
        """Add a text to the file; one that cannot be written to stays as it is."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                # A line break first, after a line that a crash cut short.
                file.write(b"\n" + json.dumps(string).encode())
        except OSError:
            return

    def _read(self) -> list[str]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except OSError:
            return []
        entries = (_entry(line) for line in lines)
        return [entry for entry in entries if entry is not None]

    def _rewrite(self, entries: list[str]) -> None:
        fresh = self.path.with_suffix(f".{os.getpid()}")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(b"".join(b"\n" + json.dumps(entry).encode() for entry in entries))
            fresh.replace(self.path)
        except OSError:
            return


def _entry(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    # Nothing that a terminal would obey.
    is_text = isinstance(entry, str) and all(c.isprintable() or c in "\n\t" for c in entry)
    return entry if is_text else None
