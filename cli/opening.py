"""Loads the model that is to be talked to, showing how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .options import LoadFlags
from .progress import BYTES, ProgressLine
from .signals import ending_at_once
from .terminal import Terminal

if TYPE_CHECKING:
    from ..llm import LLM


def open_llm(model: str, loading: LoadFlags, terminal: Terminal, *, quiet: bool = False) -> LLM:
    """Load a model. Raises ModelNotFound before torch is imported, which takes a second."""
    from ..registry.target import find_target

    find_target(model)
    progress = ProgressLine(terminal, "loading", BYTES, enabled=not quiet)
    progress.announce()
    try:
        with ending_at_once(progress.clear):
            from ..llm import LLM, LoadOptions

        options = LoadOptions(
            dtype=loading.dtype,
            device=loading.device,
            num_ctx=loading.num_ctx,
            threads=loading.threads or None,
        )
        return LLM.open(model, options, progress=progress.update)
    finally:
        progress.clear()
