"""A comparison of two models as a table that fits narrow terminals, and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .formats import human_bytes, human_number, printable

if TYPE_CHECKING:
    from rich.table import Table

    from ..models.difference import WeightError
    from ..runtime.divergence import Estimate
    from .comparison import Report, Side

_WORST = 5


def print_table(report: Report) -> None:
    """Print both models side by side, then the divergence, then the tensors that differ most."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    for table in (_models(report), _divergence(report), _tensors(report.errors)):
        if table is not None:
            console.print(table)


def print_tensors(errors: list[WeightError]) -> None:
    """Print only the tensors that differ most."""
    from rich.console import Console

    table = _tensors(errors)
    if table is not None:
        Console(markup=False, highlight=False, emoji=False).print(table)


def as_dict(report: Report) -> dict[str, object]:
    """Return everything under JSON's names; numbers that JSON lacks become None."""
    result = asdict(report.result)
    errors = report.errors
    found = {
        "base": _side(report.base),
        "other": _side(report.other),
        "num_ctx": report.size,
        "windows": report.num_windows,
        **result,
        "in_turn": report.in_turn,
        "weight_error": _overall(errors) if errors else None,
        "tensors": None if errors is None else [asdict(error) for error in _sorted(errors)],
    }
    return {key: _finite(value) for key, value in found.items()}


def _models(report: Report) -> Table:
    base, other, result = report.base, report.other, report.result
    table = _new("", "base", "other")
    table.add_row("file", _name(base), _name(other))
    table.add_row("type", base.quantization, other.quantization)
    table.add_row("size", human_bytes(base.nbytes), human_bytes(other.nbytes))
    table.add_row("bits/weight", _bits(base), _bits(other))
    table.add_row("perplexity", _estimate(result.ppl_base, 4), _estimate(result.ppl, 4))
    if base.speed is not None and other.speed is not None:
        for label, a, b in (
            ("prefill t/s", base.speed.prefill, other.speed.prefill),
            ("decode t/s", base.speed.decode, other.speed.decode),
        ):
            table.add_row(label, f"{a:.1f}", f"{b:.1f}")
    return table


def _divergence(report: Report) -> Table:
    result = report.result
    kl, spread = result.kl, result.kl_spread
    table = _new(f"over {human_number(result.tokens)} tokens", "")
    table.add_row("KL divergence, mean", _estimate(kl, 6))
    for label, value in (
        ("median", spread.median),
        ("99 %", spread.p99),
        ("99.9 %", spread.p999),
        ("largest", spread.maximum),
    ):
        table.add_row(f"  {label}", f"{value:.6f}")
    table.add_row("same likeliest token", _estimate(result.same_top, 2, percent=True))
    table.add_row("Δp, RMS", _estimate(result.delta_p_rms, 3, percent=True))
    table.add_row("Δp, mean", _estimate(result.delta_p, 3, percent=True))
    table.add_row("ln(PPL ratio)", _estimate(result.log_ratio, 5))
    if report.errors:
        table.add_row("weights, relative RMSE", f"{100 * _overall(report.errors):.3f} %")
    elif report.errors is not None:
        table.add_row("weights", "named differently")
    return table


def _tensors(errors: list[WeightError] | None) -> Table | None:
    if errors is None:
        return None
    worst = [error for error in _sorted(errors)[:_WORST] if error.error > 0]
    if not worst:
        return None
    table = _new("tensors that differ most", "type", "RMSE")
    for error in worst:
        kinds = f"{error.base_dtype} → {error.dtype}".upper()
        table.add_row(printable(error.name.removesuffix(".weight")), kinds, f"{100 * error.error:.2f} %")
    return table


def _new(first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _name(side: Side) -> str:
    return printable(Path(side.name).name or side.name)


def _bits(side: Side) -> str:
    return "" if side.bits_per_weight is None else f"{side.bits_per_weight:.2f}"


def _estimate(estimate: Estimate, digits: int, *, percent: bool = False) -> str:
    if percent:
        return f"{estimate.value:.{digits}%} ± {estimate.error:.{digits}%}".replace("%", " %")
    return f"{estimate.value:.{digits}f} ± {estimate.error:.{digits}f}"


def _sorted(errors: list[WeightError]) -> list[WeightError]:
    return sorted(errors, key=lambda error: -error.error)


def _overall(errors: list[WeightError]) -> float:
    from ..models.difference import overall

    return overall(errors)


def _side(side: Side) -> dict[str, object]:
    return {
        "name": side.name,
        "path": str(side.path),
        "architecture": side.architecture,
        "quantization": side.quantization,
        "num_weights": side.num_weights,
        "size": side.nbytes,
        "bits_per_weight": side.bits_per_weight,
        "speed": None if side.speed is None else asdict(side.speed),
    }


def _finite(value: object) -> object:
    """Replace what JSON cannot hold, at any depth."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
