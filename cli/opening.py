"""Loads the model that is to be talked to, showing how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .options import ComputeFlags, ModelFlags
from .progress import BYTES, ProgressLine
from .signals import ending_at_once
from .terminal import Terminal

if TYPE_CHECKING:
    from ..llm import LLM


def open_llm(
    model: str,
    flags: ComputeFlags,
    terminal: Terminal,
    *,
    num_ctx: int | None = None,
    quiet: bool = False,
) -> LLM:
    """Load a model. Raises InvalidRequest and ModelNotFound before torch is imported, which takes a second."""
    from ..registry.target import find_target

    flags.check()
    find_target(model)
    progress = ProgressLine(terminal, "loading", BYTES, enabled=not quiet)
    progress.announce()
    try:
        with ending_at_once(progress.clear):
            from ..llm import LLM
            from ..runtime.load_options import LoadOptions

        options = LoadOptions(
            dtype=flags.dtype,
            device=flags.device,
            num_ctx=num_ctx,
            threads=flags.threads or None,
            cache_type_k=flags.cache_type_k,
            cache_type_v=flags.cache_type_v,
            quantize=flags.quantize if isinstance(flags, ModelFlags) else None,
        )
        return LLM.open(model, options, progress=progress.update)
    finally:
        progress.clear()
