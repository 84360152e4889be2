"""One step of the schedule through the model: the only place that turns sequences into tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.base import CausalLM
from ..models.batch import Span
from ..models.cache import Cache
from .scheduler import Step


class ModelRunner:
    """Runs steps on a model and its cache."""

    def __init__(self, model: CausalLM, cache: Cache) -> None:
        self.model = model
        self.cache = cache
        self.block_size = cache.block_size

    def run(self, step: Step) -> Tensor:
        """Compute the step's tokens; returns float32 logits [rows, vocab] of the sequences that will draw."""
        spans = []
        for sequence, n in step.items:
            ids, wanted = sequence.pending(n), sequence.num_logits(n)
            spans.append(Span(ids, sequence.num_computed, sequence.blocks, num_logits=wanted))
        with torch.inference_mode():
            return self.model.step(spans, self.cache)


def run_alone(
    model: CausalLM, cache: Cache, ids: list[int], first: int, *, start: int = 0, chunk: int = 512
) -> Tensor:
    """Compute tokens outside the schedule, after the `start` that the cache holds from its beginning.

    Returns float32 logits [len(ids) - first, vocab] of ids[first:].
    """
    blocks = list(range(cache.num_blocks))
    rows = []
    with torch.inference_mode():
        for at in range(0, len(ids), chunk):
            part = ids[at : at + chunk]
            wanted = max(0, at + len(part) - max(first, at))
            rows.append(model.step([Span(part, start + at, blocks, num_logits=wanted)], cache))
    return torch.cat(rows)
