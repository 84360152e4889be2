"""How the server finds, measures, loads and lets go of one model; torch is imported with the first."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelNotFound
from ..registry.target import Target, find_target
from ..runtime.load_options import LoadOptions
from ..settings import Settings
from .options import ServerOptions

if TYPE_CHECKING:
    from ..llm import LLM

ENOUGH_CONTEXT = 32768
"""Where memory limits a context, no other model has to go for more than this."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model on disk: the name that it is known by, and what changes when it is replaced."""

    name: str
    target: Target
    digest: str


@dataclass(frozen=True, slots=True)
class Needs:
    """How a model could be loaded: with its weights held in memory, and with how much context."""

    hold: bool
    context_length: int

    def is_as_good_as(self, best: Needs) -> bool:
        """Whether nothing is lost against the best that this machine can do, or little."""
        return self.hold >= best.hold and self.context_length >= min(best.context_length, ENOUGH_CONTEXT)


def find(name: str, options: ServerOptions, settings: Settings) -> Found:
    """Look a model up by its name in the store. Raises ModelNotFound, InvalidName, StoreError.

    Files and folders are found only if the server was started with them: a request must not make it open others.
    """
    no_file = ModelNotFound(
        f"model '{name}' not found", hint="a server loads files only if it was started with them"
    )
    if name.startswith((".", "/", "~")) and name not in options.models:
        raise no_file  # whether it is there is nobody's business
    target = find_target(name, settings)
    if target.entry is not None:
        return Found(target.entry.name.short(), target, target.entry.digest)
    if name not in options.models:
        raise no_file
    return Found(name, target, _stamp(target.path))


def measure(target: Target, options: ServerOptions, num_ctx: int | None, spare: int) -> Needs:
    """Work out how a model would be loaded if `spare` more bytes were free; raises what would keep it from loading."""
    from ..models.checkpoint.open import open_checkpoint
    from ..runtime.backend import Backend

    parameters = target.contents.parameters if target.contents is not None else {}
    said = parameters.get("num_ctx")
    wanted = num_ctx or options.load.num_ctx or (said if isinstance(said, int) and said > 0 else None)
    checkpoint = open_checkpoint(target.path)
    try:
        plan = Backend(checkpoint, replace(_asked(options), num_ctx=wanted), spare=spare).plan
    finally:
        checkpoint.close()
    return Needs(plan.hold, plan.context_length)


def load(name: str, options: ServerOptions, settings: Settings, num_ctx: int | None) -> LLM:
    """Load a model. Raises a MullError that says what is wrong."""
    from ..llm import LLM

    # What the libraries have brought stays: the collector need not look through it again and again, between steps. Only
    # before the first model: what is frozen is never freed, were it a model.
    if not gc.get_freeze_count():
        gc.freeze()
    wanted = replace(options.load, parallel=options.parallel)
    if num_ctx is not None:
        wanted = replace(wanted, num_ctx=num_ctx)
    return LLM.open(name, wanted, settings=settings)


def give_back() -> None:
    """Give what a model has left behind back to the system."""
    from ..kernels.device import trim_memory

    gc.collect()
    trim_memory()


def untouched(committed: int) -> int:
    """Return how much of the memory that our models were promised has not been taken yet, caches above all."""
    try:
        status = Path("/proc/self/status").read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return 0
    anonymous = next((line for line in status.splitlines() if line.startswith("RssAnon:")), "RssAnon: 0 kB")
    return max(0, committed - int(anonymous.split()[1]) * 1024)


def _asked(options: ServerOptions) -> LoadOptions:
    """Return how every model is loaded; the engine runs as many sequences as there are turns."""
    return replace(options.load, parallel=options.parallel)


def _stamp(path: Path) -> str:
    """Return what changes when a file is replaced or written to."""
    state = path.stat()
    return f"{state.st_ino}:{state.st_size}:{state.st_mtime_ns}"
