"""The options of samplers that are off by default, and of their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from .options import SamplingFlags, in_panel

_PANEL = "More samplers (off by default)"
_more = in_panel(_PANEL)
_COUNT, _NUMBER = "N", "NUMBER"
_ESCAPES = {"\\n": "\n", "\\t": "\t", '\\"': '"', "\\\\": "\\"}


def _unescaped(text: str) -> str:
    """Read \\n, \\t and the like, which a shell leaves as they are."""
    parts = text.split("\\\\")
    for written, meant in list(_ESCAPES.items())[:-1]:
        parts = [part.replace(written, meant) for part in parts]
    return "\\".join(parts)


@dataclass(frozen=True, slots=True)
class SamplerFlags(SamplingFlags):
    """Every way to draw a token; None is the model's default."""

    samplers: Annotated[
        str | None,
        _more("--samplers", "Which samplers run, and in what order, such as 'top_k;temperature'.", "NAMES"),
    ] = None
    min_keep: Annotated[int | None, _more("--min-keep", "Leave at least N tokens to draw from.", _COUNT)] = (
        None
    )
    top_n_sigma: Annotated[
        float | None, _more("--top-n-sigma", "Keep logits this many sigmas below the highest.", _NUMBER)
    ] = None
    xtc_probability: Annotated[
        float | None, _more("--xtc-probability", "How often to exclude the top choices (XTC).", _NUMBER)
    ] = None
    xtc_threshold: Annotated[
        float | None, _more("--xtc-threshold", "How likely a top choice is.", _NUMBER)
    ] = None
    dry_multiplier: Annotated[
        float | None,
        _more("--dry-multiplier", "How much to lower what continues a repetition (DRY).", _NUMBER),
    ] = None
    dry_base: Annotated[
        float | None, _more("--dry-base", "How fast that grows with the repetition.", _NUMBER)
    ] = None
    dry_allowed_length: Annotated[
        int | None, _more("--dry-allowed-length", "Repetitions up to N tokens are free.", _COUNT)
    ] = None
    dry_penalty_last_n: Annotated[
        int | None, _more("--dry-penalty-last-n", "How far back DRY looks; -1: all, 0: off.", _COUNT)
    ] = None
    dry_sequence_breakers: Annotated[
        list[str] | None,
        typer.Option(
            "--dry-sequence-breaker",
            help="Repetitions end at this text; may be given again; none: nowhere.",
            metavar="TEXT",
            parser=_unescaped,
            rich_help_panel=_PANEL,
        ),
    ] = None
    dynatemp_range: Annotated[
        float | None, _more("--dynatemp-range", "Vary the temperature by this, with the entropy.", _NUMBER)
    ] = None
    dynatemp_exponent: Annotated[
        float | None, _more("--dynatemp-exponent", "How the entropy maps to the temperature.", _NUMBER)
    ] = None
    mirostat: Annotated[
        int | None, _more("--mirostat", "Steer the surprise instead: 1, 2, or 0 for off.", "VERSION")
    ] = None
    mirostat_tau: Annotated[
        float | None, _more("--mirostat-tau", "The surprise that mirostat aims at, in bits.", _NUMBER)
    ] = None
    mirostat_eta: Annotated[float | None, _more("--mirostat-eta", "How fast mirostat learns.", _NUMBER)] = (
        None
    )
    adaptive_target: Annotated[
        float | None, _more("--adaptive-target", "Prefer tokens near this probability; -1: off.", _NUMBER)
    ] = None
    adaptive_decay: Annotated[
        float | None, _more("--adaptive-decay", "How long adaptive-p remembers, from 0 to 0.99.", _NUMBER)
    ] = None
