"""llama.cpp's own programs, if they are installed or lie beside its library."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_TIMES = 4


def run_tool(name: str, *words: object, until: re.Pattern[str] | None = None) -> str:
    """Run a program of llama.cpp and return what it prints; skip the test where it is absent.

    until: what must be in it. These programs may end before their last lines are written; they are run again then.
    """
    beside = os.environ.get("LLAMA_CPP_LIB_PATH")
    path = shutil.which(name, path=beside) if beside else None
    path = path or shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}, on PATH or in LLAMA_CPP_LIB_PATH")
    libraries = os.environ | ({"LD_LIBRARY_PATH": beside} if beside else {})
    line = [path, *map(str, words)]
    for _ in range(_TIMES):
        done = subprocess.run(line, capture_output=True, text=True, env=libraries, errors="replace")
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{name}: {said}"
        if until is None or until.search(said):
            return said
    pytest.fail(f"{name} never said {until.pattern if until else ''}: {said}")


TEXT = Path(__file__).resolve().parents[2] / "LICENSE"


def plain_text(path: Path, times: int = 1) -> Path:
    """Write English in ASCII, without the line end that llama.cpp's programs drop."""
    text = TEXT.read_text().strip().encode("ascii", "ignore").decode()
    path.write_text(" ".join([text] * times))
    return path
