"""Loads the model that is to be talked to, showing how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .options import ComputeFlags, LoadFlags, ModelFlags
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
    """Load a model, or have a server that runs on this machine load it.

    Raises InvalidRequest and ModelNotFound before torch is imported, which takes a second.
    """
    from ..registry.target import find_target

    flags.check()
    target = find_target(model)
    if isinstance(flags, LoadFlags) and flags.draft is not None:
        find_target(flags.draft)
    progress = ProgressLine(terminal, "loading", BYTES, enabled=not quiet)
    progress.announce()
    try:
        if isinstance(flags, LoadFlags) and not flags.local:
            from ..settings import load_settings
            from .remote import open_remote

            remote = open_remote(model, flags, target, load_settings(), num_ctx)
            if remote is not None:
                return cast("LLM", remote)
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
            speculate=flags.speculate if isinstance(flags, LoadFlags) else "off",
            draft=flags.draft if isinstance(flags, LoadFlags) else None,
            prompt_cache=flags.prompt_cache_bytes() if isinstance(flags, LoadFlags) else None,
        )
        return LLM.open(model, options, progress=progress.update)
    finally:
        progress.clear()
