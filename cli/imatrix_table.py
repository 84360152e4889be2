"""The table of an importance matrix's statistics, for `llm imatrix --show`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .formats import printable

_WIDE = 60  # columns, from which on there is room for every figure

if TYPE_CHECKING:
    from ..quant.imatrix import ImportanceMatrix
    from ..quant.imatrix_statistics import Statistics


def show_statistics(path: Path, *, as_json: bool) -> None:
    """Print what a file says of each weight matrix; raises what is wrong with it."""
    from ..quant.imatrix import ImportanceMatrix
    from ..quant.imatrix_statistics import statistics

    matrix = ImportanceMatrix.read(path)
    rows = statistics(matrix)
    if as_json:
        print(json.dumps(_as_json(matrix, rows), indent=2, ensure_ascii=False))
        return
    names = ", ".join(printable(name) for name in matrix.datasets) or "an unnamed text"
    print(f"{len(rows)} matrices, {matrix.chunk_count} windows of {matrix.chunk_size} tokens, of {names}")
    _print_table(rows)


def _print_table(rows: list[Statistics]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, emoji=False)
    wide = console.width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("tensor", overflow="fold")
    for name in ("Σ(x²)", "unused", *(["entropy"] if wide else []), "spread"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        bits = [f"{row.entropy:.2f}"] if wide else []
        name = printable(row.name.removesuffix(".weight"))
        table.add_row(name, f"{row.total:.4g}", f"{row.unused:.1%}", *bits, f"{row.spread:.0%}")
    console.print(table)


def _as_json(matrix: ImportanceMatrix, rows: list[Statistics]) -> dict[str, object]:
    return {
        "datasets": list(matrix.datasets),
        "chunk_count": matrix.chunk_count,
        "chunk_size": matrix.chunk_size,
        "tensors": [asdict(row) for row in rows],
    }
