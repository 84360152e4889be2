"""What `llm quantize --report` shows: the result beside its source, and the tensors that differ most."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from .comparison import Wanted, make_report
from .comparison_table import as_dict, print_table, print_tensors
from .headers import open_target
from .options import ComputeFlags
from .progress import WEIGHTS, ProgressLine
from .quantize_goals import TextFlags
from .quantize_trials import window_size
from .terminal import Terminal

if TYPE_CHECKING:
    from ..models.difference import WeightError
    from .quantize_run import Run
    from .quantize_source import Opened


def report(
    opened: Opened, names: tuple[str, str], text: TextFlags, run: Run, *, as_json: bool
) -> dict[str, object]:
    """Compare the model with what it became, on a text if there is one; print it, and return it for JSON.

    names: of the source and of the result, as the command line has them.
    """
    errors = _weight_errors(opened, names[1], run.terminal, quiet=run.quiet)
    if text.file is None:
        if not as_json:
            print_tensors(errors)
        return {"tensors": [asdict(error) for error in sorted(errors, key=lambda error: -error.error)]}
    size = window_size(opened.checkpoint, text.file)
    wanted = Wanted(*names, text.file, size, load=ComputeFlags(threads=run.threads), weights=False)
    found = replace(make_report(wanted, run.terminal, quiet=run.quiet), errors=errors)
    if not as_json:
        print_table(found)
    if text.plot is not None:
        from .comparison_plot import draw

        draw(found, text.plot)
        if not run.quiet:
            run.terminal.note(f"drawn: {text.plot}")
    return as_dict(found)


def _weight_errors(opened: Opened, name: str, terminal: Terminal, *, quiet: bool) -> list[WeightError]:
    """Compare the weights under GGUF's names, which a folder gets as it is converted."""
    from ..models.difference import weight_errors

    line = ProgressLine(terminal, "weights", WEIGHTS, enabled=not quiet)
    try:
        with open_target(name) as (_, made):
            return list(weight_errors(opened.as_gguf(), made, line.update))
    finally:
        line.clear()
