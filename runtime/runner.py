"""One step of the schedule through the model: the only place that turns sequences into tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.base import MAX_STEP, CausalLM
from ..models.batch import Span
from ..models.cache import Cache
from .scheduler import Step

# Rows of logits whose memory is kept.
KEPT_ROWS = 16


class ModelRunner:
    """Runs steps on a model and its cache."""

    def __init__(self, model: CausalLM, cache: Cache) -> None:
        self.model = model
        self.cache = cache
        self.block_size = cache.block_size
        # Kept from step to step, not taken and given back for every token.
        self._logits = torch.empty(KEPT_ROWS, model.config.vocab_size)

    def run(self, step: Step) -> Tensor:
        """Compute the step's tokens; returns float32 logits [rows, vocab] of the sequences that will draw.

        They are good until the next step.
        """
        spans = []
        for sequence, n in step.items:
            ids, wanted = sequence.pending(n), sequence.num_logits(n)
            spans.append(Span(ids, sequence.num_computed, sequence.blocks, num_logits=wanted))
        return self.model.step(spans, self.cache, out=self._logits)


def run_alone(
    model: CausalLM, cache: Cache, ids: list[int], first: int, *, start: int = 0, flash: bool = True
) -> Tensor:
    """Compute tokens outside the schedule, after the `start` that the cache holds from its beginning.

    Returns float32 logits [len(ids) - first, vocab] of ids[first:]. flash: as in CausalLM.step.
    """
    blocks = list(range(cache.num_blocks))
    rows = []
    with torch.inference_mode():
        for at in range(0, len(ids), MAX_STEP):
            part = ids[at : at + MAX_STEP]
            wanted = max(0, at + len(part) - max(first, at))
            span = Span(part, start + at, blocks, num_logits=wanted)
            rows.append(model.step([span], cache, flash=flash))
    return torch.cat(rows)
