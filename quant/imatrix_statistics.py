"""What an importance matrix says of each weight matrix, in llama-imatrix's figures (--show-statistics)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from .imatrix import Entry, ImportanceMatrix

# Columns whose mean square is no more than this count as unused.
_UNUSED = 1e-5


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of the mean squared inputs of one matrix, over the columns of all experts that tokens reached.

    total, smallest, largest, mean, deviation: of the mean squares; unused: the share of columns near zero;
    entropy: in bits, of the columns' shares of the total; spread: entropy over its largest value, log2(columns);
    outliers: the share of columns more than a standard deviation above the mean; similarity: the cosine to the same
    matrix one layer before, 0 without one; reached: the share of experts that any token reached.
    """

    name: str
    tokens: int
    columns: int
    total: float
    smallest: float
    largest: float
    mean: float
    deviation: float
    unused: float
    entropy: float
    spread: float
    outliers: float
    similarity: float
    reached: float


def statistics(matrix: ImportanceMatrix) -> list[Statistics]:
    """Return each matrix's figures, by kind and then the most used first; those that no token reached are left out."""
    found = [
        _statistics(name, entry, _similarity(matrix, name))
        for name, entry in matrix.entries.items()
        if (entry.counts > 0).any()
    ]
    return sorted(found, key=lambda row: (kind_of(row.name), -row.total, row.name))


def kind_of(name: str) -> str:
    """Return which matrix of a layer a tensor is: `attn_q` of `blk.3.attn_q.weight`."""
    return re.sub(r"^blk\.\d+\.|\.weight$", "", name)


def _statistics(name: str, entry: Entry, similarity: float) -> Statistics:
    reached = entry.counts > 0
    used = (entry.sums[reached] / entry.counts[reached, None]).astype(np.float64).ravel()
    total, mean, deviation = float(used.sum()), float(used.mean()), float(used.std())
    shares = used[used > 0] / total if total > 0 else used[:0]
    entropy = float(-(shares * np.log2(shares)).sum()) if shares.size else 0.0
    return Statistics(
        name=name,
        tokens=int(entry.counts.sum()),
        columns=used.size,
        total=total,
        smallest=float(used.min()),
        largest=float(used.max()),
        mean=mean,
        deviation=deviation,
        unused=float((np.abs(used) <= _UNUSED).mean()),
        entropy=entropy,
        spread=entropy / math.log2(used.size) if used.size > 1 else 1.0,
        outliers=float((used > mean + deviation).mean()) if deviation > 0 else 0.0,
        similarity=similarity,
        reached=float(reached.mean()),
    )


def _similarity(matrix: ImportanceMatrix, name: str) -> float:
    """Return the cosine between a matrix's sums and those of the same one a layer before."""
    match = re.match(r"blk\.(\d+)\.", name)
    before = matrix.entries.get(f"blk.{int(match[1]) - 1}.{name[match.end() :]}") if match else None
    here = matrix.entries[name]
    if before is None or before.sums.shape != here.sums.shape:
        return 0.0
    a, b = (entry.sums.astype(np.float64).ravel() for entry in (here, before))
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else 0.0
