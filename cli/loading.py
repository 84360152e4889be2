"""Loads a model for commands that measure, with a bar where somebody watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ..settings import load_settings
from .options import ComputeType, Device, check_threads

if TYPE_CHECKING:
    from ..llm import LLM


@dataclass(frozen=True, slots=True)
class ComputeFlags:
    """What a model computes with; None is automatic."""

    threads: Annotated[
        int | None, typer.Option("--threads", "-t", metavar="N", help="CPU threads; 0: one per core.")
    ] = None
    device: Annotated[Device, typer.Option("--device", help="Where to compute.")] = "auto"
    dtype: Annotated[ComputeType, typer.Option("--dtype", help="The type to compute in.")] = "auto"


def open_llm(model: str, num_ctx: int, flags: ComputeFlags, *, quiet: bool) -> LLM:
    """Load a model for a context of `num_ctx` tokens."""
    check_threads(flags.threads)

    from ..llm import LLM, LoadOptions
    from .progress import BYTES, ProgressLine
    from .terminal import Terminal

    terminal = Terminal.detect(color=load_settings().color)
    line = ProgressLine(terminal, "loading", BYTES, enabled=not quiet)
    options = LoadOptions(dtype=flags.dtype, device=flags.device, num_ctx=num_ctx, threads=flags.threads)
    try:
        return LLM.open(model, options, progress=line.update)
    finally:
        line.clear()
