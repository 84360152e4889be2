"""What comparisons with llama.cpp's own programs share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run(*words: object) -> str:
    """Run a program, its libraries beside it as llama.cpp's; return what it printed, raise if it fails."""
    command = list(map(str, words))
    library = {"LD_LIBRARY_PATH": str(Path(command[0]).parent)}
    done = subprocess.run(command, env={**os.environ, **library}, check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def warm(path: Path) -> None:
    """Read a file into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass
