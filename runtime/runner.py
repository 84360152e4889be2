"""One step of the schedule through the model: the only place that turns sequences into tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.cpu.program import Attention
from ..models.base import CausalLM
from ..models.batch import Span
from ..models.cache import Cache
from .scheduler import Step

# Rows of logits whose memory is kept.
KEPT_ROWS = 16


class ModelRunner:
    """Runs steps on a model and its cache; deterministic: no bit of a sequence depends on the others of a step."""

    def __init__(self, model: CausalLM, cache: Cache, *, deterministic: bool = False) -> None:
        self.model = model
        self.deterministic = deterministic
        self._way = Attention.STEADY if deterministic else Attention.FAST
        self.cache = cache
        self.block_size = cache.block_size
        # Kept from step to step, not taken and given back for every token; its rows too.
        self._logits = torch.empty(KEPT_ROWS, model.config.vocab_size)
        self._rows = list(self._logits)

    def run(self, step: Step) -> list[Tensor]:
        """Compute the step's tokens; returns rows of float32 logits [vocab], those of sequences that will draw first.

        They are good until the next step.
        """
        spans = []
        for sequence, n in step.items:
            ids, wanted = sequence.pending(n), sequence.num_logits(n)
            spans.append(Span(ids, sequence.num_computed, sequence.blocks, num_logits=wanted))
        logits = self.model.step(spans, self.cache, out=self._logits, way=self._way)
        return self._rows if logits is self._logits else list(logits)
