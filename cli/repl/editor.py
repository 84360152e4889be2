"""The user's own editor, for texts that are longer than a line."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from ...errors import InvalidRequest
from ...settings import load_console
from ..inputs import read_text

_USUAL = ("sensible-editor", "nano", "vi")


def edit_text(text: str) -> str:
    """Let the user edit a text, and return it; raises InvalidRequest where there is no editor, or it fails."""
    command = _command()
    descriptor, name = tempfile.mkstemp(prefix="mull-", suffix=".md")
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        try:
            code = subprocess.call([*command, name])
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InvalidRequest(
                f"cannot run {command[0]}: {reason}", hint="name your editor in EDITOR"
            ) from None
        if code != 0:
            raise InvalidRequest(f"{command[0]} failed ({code}), and the text stays as it was")
        edited = read_text(path)
    finally:
        path.unlink(missing_ok=True)
    return edited.removesuffix("\n") if not text.endswith("\n") else edited


def _command() -> list[str]:
    named = load_console().editor
    try:
        command = shlex.split(named) if named else []
    except ValueError:
        command = []
    if command:
        return command
    found = next((name for name in _USUAL if shutil.which(name)), None)
    if found is None:
        raise InvalidRequest("there is no editor", hint="name one in EDITOR")
    return [found]
