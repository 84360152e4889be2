"""How far a model's predictions move when some of its matrices are rounded, and what its matrices are multiplied by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from ..models.checkpoint.base import Checkpoint
from ..models.probing import Probe
from ..quant.dtype import DType
from ..quant.imatrix import ImportanceMatrix
from .activations import Activations, observe
from .alone import run_alone
from .backend import Backend
from .divergence import Predictions, score
from .load_options import LoadOptions

# Bytes of logits that are kept to compare with.
_MOST_KEPT = 1 << 29

Windows = Sequence[Sequence[int]]
Counted = Callable[[int], None]
"""Called with the number of tokens that were computed."""


class Sensitivity:
    """A model's own predictions on some windows of a text, to measure changed ones against.

    The second half of each window counts.
    """

    def __init__(
        self, checkpoint: Checkpoint, options: LoadOptions, windows: Windows, counted: Counted
    ) -> None:
        self._checkpoint = checkpoint
        self._options = options
        self._windows = windows
        self._counted = counted
        self._base = self._predict(checkpoint)

    def divergence(self, kinds: Mapping[str, DType], importance: ImportanceMatrix | None) -> float:
        """Return the mean KL divergence, in nats, with these matrices rounded to these types."""
        found = self._predict(Probe(self._checkpoint, kinds, importance))
        return sum(float(score(a, b).kl.mean()) for a, b in zip(self._base, found, strict=True)) / len(found)

    def _predict(self, checkpoint: Checkpoint) -> list[Predictions]:
        backend = Backend(checkpoint, self._options)
        model = backend.load(None)
        cache = backend.new_cache(model, max(len(window) for window in self._windows))
        found = []
        for window in self._windows:
            first = len(window) // 2
            logits = run_alone(model, cache, list(window), first)
            found.append(Predictions.of(logits[:-1], window[first + 1 :]))
            self._counted(len(window))
        return found


def spread_windows(windows: Windows, most: int) -> Windows:
    """Return at most so many windows, from all over the text."""
    count = min(most, len(windows))
    return [windows[i * len(windows) // count] for i in range(count)]


def most_windows(size: int, vocab_size: int) -> int:
    """Return how many windows' logits may be kept; at least one."""
    return max(1, _MOST_KEPT // (4 * vocab_size * (size - size // 2)))


def measure_importance(
    checkpoint: Checkpoint, options: LoadOptions, windows: Windows, dataset: str, counted: Counted
) -> ImportanceMatrix:
    """Return the mean squares of what every matrix is multiplied by, the one that makes the logits included."""
    backend = Backend(checkpoint, options)
    model = backend.load(None)
    activations = Activations(model, with_output=True)
    with torch.inference_mode():
        for count in observe(backend, model, activations, windows):
            counted(count)
    return activations.matrix(dataset, len(windows[0]))
