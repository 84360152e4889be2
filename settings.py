"""The only reader of the environment: what the user set outside the command line, as one frozen value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things live and how the terminal wants them."""

    models_dir: Path
    state_dir: Path
    color: bool
    cpu: str | None = None
    think_budget: str | None = None
    think_max: str | None = None


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (default: the process's).

    MULL_MODELS     the model store (default: $XDG_DATA_HOME/mull/models)
    MULL_CPU        the native kernels' instruction set: avx512_vnni, avx2, …, baseline, or none (default: the best)
    MULL_THINK_BUDGET  the thinking budget where nothing else sets one: tokens, a share such as 50%, or a level
    MULL_THINK_MAX  the most tokens of thought that any request gets
    NO_COLOR        any value: no colour in the terminal (no-color.org)
    """
    env = os.environ if environ is None else environ
    home = Path(env.get("HOME") or Path.home())
    data = Path(env.get("XDG_DATA_HOME") or home / ".local" / "share")
    state = Path(env.get("XDG_STATE_HOME") or home / ".local" / "state")
    models = env.get("MULL_MODELS")
    return Settings(
        models_dir=Path(os.path.expanduser(models)) if models else data / "mull" / "models",
        state_dir=state / "mull",
        color=not env.get("NO_COLOR"),
        cpu=env.get("MULL_CPU") or None,
        think_budget=env.get("MULL_THINK_BUDGET") or None,
        think_max=env.get("MULL_THINK_MAX") or None,
    )
