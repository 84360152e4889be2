"""Notices that another package of the name `llm` is installed beside this one; both bring a command `llm`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

_SEEN = "other-llm-noted"


def note_clash(state_dir: Path, search_path: Iterable[str]) -> None:
    """Say once on stderr that `llm` is taken twice in this environment, and that `mull` is not."""
    version = find_other(search_path)
    if version is None or (state_dir / _SEEN).exists():
        return
    print(
        f"note: another package named llm ({version}) is installed here, and either may own the command "
        "`llm`; `mull` always means this one",
        file=sys.stderr,
    )
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        (state_dir / _SEEN).touch()
    except OSError:
        return  # then it is said again next time


def find_other(search_path: Iterable[str]) -> str | None:
    """Return the version of the other package. A look at folder names: importlib.metadata takes 20 ms."""
    for folder in search_path:
        if not folder.endswith("-packages"):
            continue
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            if name.startswith("llm-") and name.endswith(".dist-info"):
                return name.removeprefix("llm-").removesuffix(".dist-info")
    return None
