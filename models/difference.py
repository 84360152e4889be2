"""How far the weights of one checkpoint are from those of another that names its tensors alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from .checkpoint.base import Checkpoint

# Weights that are unpacked at once.
_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True)
class WeightError:
    """One tensor in two files: how it is stored, and the root mean square of the difference over that of the base."""

    name: str
    base_dtype: str
    dtype: str
    num_weights: int
    error: float


def common_matrices(base: Checkpoint, other: Checkpoint) -> list[str]:
    """Return the names of the matrices that both hold in one shape."""
    return [
        name
        for name, info in base.infos.items()
        if len(info.shape) > 1 and other.has(name) and other.info(name).shape == info.shape
    ]


def weight_errors(
    base: Checkpoint, other: Checkpoint, progress: Callable[[int, int], None] | None = None
) -> Iterator[WeightError]:
    """Yield the error of every common matrix, in file order; progress is called with weights done and in all."""
    names = common_matrices(base, other)
    total, done = sum(base.info(name).num_weights for name in names), 0
    for name in names:
        info = base.info(name)
        error = _error(base, other, name)
        done += info.num_weights
        if progress is not None:
            progress(done, total)
        yield WeightError(name, info.dtype, other.info(name).dtype, info.num_weights, error)


def overall(errors: list[WeightError]) -> float:
    """Return the mean of the errors' squares by weight, as a root."""
    total = sum(error.num_weights for error in errors)
    return math.sqrt(sum(e.error**2 * e.num_weights for e in errors) / total) if total else 0.0


def _error(base: Checkpoint, other: Checkpoint, name: str) -> float:
    a, b = base.load(name), other.load(name)
    if a.dtype == b.dtype and all(torch.equal(x, y) for x, y in zip(a.parts, b.parts, strict=True)):
        squares = difference = 0.0
    else:
        step = max(1, _AT_ONCE // max(1, math.prod(a.shape[1:])))
        squares = difference = 0.0
        for first in range(0, a.shape[0], step):
            last = min(first + step, a.shape[0])
            x, y = (tensor.rows(first, last).dequantize(torch.float32) for tensor in (a, b))
            squares += float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2
            difference += float(torch.linalg.vector_norm(x - y, dtype=torch.float64)) ** 2
    for checkpoint, tensor in ((base, a), (other, b)):
        for part in tensor.parts:
            checkpoint.forget(part)
    if not difference:
        return 0.0
    return math.sqrt(difference / squares) if squares else math.inf
