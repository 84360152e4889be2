"""What rounding a matrix to a type costs: the squared error, weighted by how strongly its columns are used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .dtype import DType
from .encode import encode
from .qtensor import QTensor

if TYPE_CHECKING:
    import numpy as np

# Weights that are tried, and the places of a matrix that they are taken from.
_SAMPLE, _PLACES = 1 << 18, 16


def rounding_errors(
    weight: QTensor, kinds: Sequence[DType], importance: np.ndarray | None
) -> tuple[dict[str, float], float]:
    """Return the squared error of each type, and the squares of the weights themselves, both as of all rows.

    importance: float32 [matrices, columns], the mean squares of what is multiplied; errors are then those of the
    products. Large matrices are tried in a sample of rows. Raises as `encode`.
    """
    table = None if importance is None else torch.from_numpy(importance)
    cols = weight.shape[-1]
    num_rows = math.prod(weight.shape[:-1])
    each = max(1, num_rows // (1 if table is None else len(table)))
    errors, energy, tried = dict.fromkeys((kind.name for kind in kinds), 0.0), 0.0, 0
    for rows in _sample(num_rows, cols):
        values = _part(weight, rows).dequantize(torch.float32).double()
        used = _shares(table, rows, each)
        energy += float((values.square() * used).sum())
        tried += len(values)
        for kind in kinds:
            if kind is not weight.dtype:
                rounded = encode(weight, kind, table, rows=rows).dequantize(torch.float32)
                errors[kind.name] += float(((rounded - values).square() * used).sum())
    scale = num_rows / max(1, tried)
    return {name: error * scale for name, error in errors.items()}, energy * scale


def _sample(num_rows: int, cols: int) -> list[slice]:
    """Return ranges of rows, spread evenly, of so many weights in all."""
    wanted = max(_PLACES, _SAMPLE // cols)
    if num_rows <= wanted:
        return [slice(0, num_rows)]
    length = wanted // _PLACES
    starts = [(num_rows - length) * i // (_PLACES - 1) for i in range(_PLACES)]
    return [slice(start, start + length) for start in starts]


def _part(weight: QTensor, rows: slice) -> QTensor:
    stored = weight.parts[0]
    cols = weight.shape[-1]
    part = (stored if weight.dtype.is_block else stored.reshape(-1, cols))[rows]
    return QTensor((part,), weight.dtype, (len(part), cols))


def _shares(table: Tensor | None, rows: slice, each: int) -> Tensor:
    """Return the importance of each row's columns: [rows, columns], or a single one."""
    if table is None:
        return torch.ones(1, 1, dtype=torch.float64)
    matrices = torch.arange(rows.start, rows.stop) // each
    return table[matrices.clamp_max(len(table) - 1)].double()
