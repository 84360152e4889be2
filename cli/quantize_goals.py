"""The options of `llm quantize` that ask for a size instead of a type, and for a report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ..errors import InvalidRequest
from .options import in_panel, parse_count
from .quantize_source import parse_size

_goal = in_panel("A size instead of a type")
_text = in_panel("What is lost")

Measure = Literal["size", "bits", "memory"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What is asked for: bytes of the files, bits per weight, or bytes of memory with a context beside the weights."""

    measure: Measure
    amount: float
    num_ctx: int | None = None


@dataclass(frozen=True, slots=True)
class GoalFlags:
    """How large the result may be."""

    target_size: Annotated[
        str | None, _goal("--target-size", "The size of the file, such as 5.2GB.", "SIZE")
    ] = None
    target_bpw: Annotated[
        float | None, _goal("--target-bpw", "Bits per weight on average, such as 4.5.", "NUMBER")
    ] = None
    fit: Annotated[
        str | None,
        _goal(
            "--fit", "Free memory for weights and a context of CTX tokens (8192), as 8GB:32K.", "MEMORY[:CTX]"
        ),
    ] = None

    def goal(self) -> Goal | None:
        """Return what is asked for, if anything; raises InvalidRequest for two goals, and for no number."""
        given = [name for name in ("target_size", "target_bpw", "fit") if getattr(self, name) is not None]
        if len(given) > 1:
            names = " and ".join("--" + name.replace("_", "-") for name in given)
            raise InvalidRequest(f"{names} exclude one another", field=given[1])
        if self.target_size is not None:
            return Goal("size", parse_size(self.target_size))
        if self.target_bpw is not None:
            if not math.isfinite(self.target_bpw) or self.target_bpw <= 0:
                raise InvalidRequest(
                    f"--target-bpw must be above 0, not {self.target_bpw}", field="target_bpw"
                )
            return Goal("bits", self.target_bpw)
        if self.fit is None:
            return None
        memory, _, context = self.fit.partition(":")
        return Goal("memory", parse_size(memory), _context(context) if ":" in self.fit else None)


@dataclass(frozen=True, slots=True)
class TextFlags:
    """On which text losses are measured, and whether they are shown."""

    file: Annotated[
        Path | None, _text("--file -f", "A text (UTF-8) like those that the model will meet.", "FILE")
    ] = None
    report: Annotated[bool, _text("--report", "Compare the result with SRC, as llm compare does.")] = False
    plot: Annotated[
        Path | None, _text("--plot", "With --report: draw it, as .png, .svg or .pdf.", "FILE")
    ] = None

    def check(self, goal: Goal | None, *, dry_run: bool) -> None:
        """Raise InvalidRequest for what has no meaning, before anything is computed."""
        if self.plot is not None and (not self.report or self.file is None):
            raise InvalidRequest("--plot draws the report on a text", hint="with --report --file FILE")
        if self.report and dry_run:
            raise InvalidRequest("--dry-run writes nothing that --report could compare", field="report")
        if self.plot is not None:
            from .comparison_plot import check_plot

            check_plot(self.plot)
        if self.file is None:
            return
        if goal is None and not self.report:
            raise InvalidRequest(
                "--file goes with --report, and with a size to find a mixture for", field="file"
            )
        if not self.file.exists():
            raise InvalidRequest(f"{self.file}: no such file", field="file")


def _context(text: str) -> int:
    import typer

    try:
        number = parse_count(text)
    except typer.BadParameter:
        number = 0
    if number < 1:
        raise InvalidRequest(f"'{text}' is no context length", field="fit", hint="for example --fit 8GB:32K")
    return number
