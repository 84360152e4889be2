"""`llm compare`: what a model lost against another, such as a quantized one against the original."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidRequest
from ..settings import load_settings
from .options import ComputeFlags, parse_count, with_groups
from .signals import ending_at_once
from .terminal import Terminal

_WINDOW, _SMALLEST = 512, 4


@dataclass(frozen=True, slots=True)
class CompareFlags:
    """What is measured, and how much of the text."""

    num_ctx: Annotated[
        int | None,
        typer.Option(
            "--num-ctx", "-c", metavar="N", parser=parse_count, help="Tokens per window. [default: 512]"
        ),
    ] = None
    chunks: Annotated[
        int | None, typer.Option("--chunks", min=1, metavar="N", help="Windows to run. [default: all]")
    ] = None
    no_speed: Annotated[bool, typer.Option("--no-speed", help="Do not measure speed.")] = False
    no_weights: Annotated[bool, typer.Option("--no-weights", help="Do not compare single tensors.")] = False


_DEFAULTS, _AUTOMATIC = CompareFlags(), ComputeFlags()


@with_groups
def command(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The model to measure against.")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The model to measure.")],
    file: Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The text (UTF-8).")],
    flags: CompareFlags = _DEFAULTS,
    load: ComputeFlags = _AUTOMATIC,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the result, as .png, .svg or .pdf.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notes.")] = False,
) -> None:
    """Measure what a model lost against another, such as a quantized one against its original.

    Both predict the same windows of a text, as llm perplexity cuts them. KL divergence, in nats, says how far OTHER's
    predictions are from BASE's; below 0.01 is hard to notice. Where memory does not hold both models, they are loaded
    one after the other, and BASE's predictions wait in a temporary file.

    \b
    Examples:
      llm compare ./qwen3-f16.gguf ./qwen3-q4_k_m.gguf --file wiki.test.raw
      llm compare qwen3:f16 qwen3 -f notes.txt --chunks 20 --json
      llm compare ./original ./quantized.gguf -f wiki.test.raw --plot loss.png
    """
    size = _WINDOW if flags.num_ctx is None else flags.num_ctx
    if size < _SMALLEST:
        raise InvalidRequest(f"windows need at least {_SMALLEST} tokens, not {size}", field="num_ctx")
    load.check()
    terminal = Terminal.detect(color=load_settings().color)
    _find(base, other)
    with ending_at_once():
        from .comparison import Wanted, make_report
    if plot is not None:
        from .comparison_plot import check_plot, draw

        check_plot(plot)
    wanted = Wanted(
        base, other, file, size, flags.chunks, load, speed=not flags.no_speed, weights=not flags.no_weights
    )
    report = make_report(wanted, terminal, quiet=quiet)
    from .comparison_table import as_dict, print_table

    if report.in_turn and not quiet:
        terminal.note("loaded one after the other, for want of memory")
    if as_json:
        import json

        print(json.dumps(as_dict(report), indent=2, ensure_ascii=False))
    else:
        print_table(report)
    if plot is not None:
        draw(report, plot)
        if not quiet:
            terminal.note(f"drawn: {plot}")


def _find(*models: str) -> None:
    """Raise ModelNotFound for a wrong name, before torch is imported, which takes a second."""
    from ..registry.target import find_target

    for model in models:
        find_target(model)
