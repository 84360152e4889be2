"""Tokens through the model outside the schedule: whole windows of logits, and how long they take."""

from __future__ import annotations

import random
import time

import torch
from torch import Tensor

from ..errors import NotSupported
from ..kernels.cpu.program import Attention
from ..kernels.device import available_memory, synchronize
from ..models.base import MAX_STEP, CausalLM
from ..models.batch import Span
from ..models.cache import Cache
from .backend import BLOCK_SIZE, Backend
from .memory import RESERVE, plan_scores


def run_alone(
    model: CausalLM, cache: Cache, ids: list[int], first: int, *, start: int = 0, flash: bool = True
) -> Tensor:
    """Compute tokens outside the schedule, after the `start` that the cache holds from its beginning.

    Returns float32 logits [len(ids) - first, vocab] of ids[first:]. flash=False: with plain attention.
    """
    blocks = list(range(cache.num_blocks))
    rows = []
    with torch.inference_mode():
        for at in range(0, len(ids), MAX_STEP):
            part = ids[at : at + MAX_STEP]
            wanted = max(0, at + len(part) - max(first, at))
            span = Span(part, start + at, blocks, num_logits=wanted)
            rows.append(model.step([span], cache, way=Attention.FAST if flash else Attention.PLAIN))
    return torch.cat(rows)


class Alone:
    """Computes on a cache of its own, between two steps of the engine.

    attention_bytes: what attention worked in during the last `bench`, besides the cache; None where torch computes.
    """

    def __init__(self, model: CausalLM, backend: Backend) -> None:
        self._model = model
        self._backend = backend
        self._scratch: Cache | None = None
        self._filled = 0  # tokens of `bench` at the scratch cache's beginning
        self._score_bytes = 0  # that `bench` has already had for plain attention
        self.attention_bytes: int | None = None

    def logits(self, ids: list[int], first: int) -> Tensor:
        """Compute one window; returns float32 logits [len(ids) - first, vocab] of ids[first:]."""
        cache, self._filled = self._cache(len(ids)), 0
        return run_alone(self._model, cache, ids, first).cpu()

    def bench(self, prompt: int, generate: int, depth: int, *, flash: bool = True) -> float:
        """Return the seconds for `prompt` tokens at once and `generate` one by one, after `depth` others.

        flash=False measures plain attention, whose scores are all in memory at once; it raises NotSupported where torch
        computes, and OutOfMemory.
        """
        size = depth + prompt + generate
        if not flash:
            self._plan_scores(min(prompt or 1, MAX_STEP), size)
        ids = random.Random(0).choices(range(self._model.config.vocab_size), k=size)
        program = self._model.program
        cache = self._cache(size)
        # The same tokens lead every run: what is cached of them stays.
        filled, self._filled = min(self._filled, depth), depth
        if depth > filled:
            run_alone(self._model, cache, ids[filled:depth], depth - filled - 1, start=filled)
        if program is not None:
            program.attention_bytes()  # of what was not measured
        started = time.perf_counter()
        if prompt:
            part = ids[depth : depth + prompt]
            run_alone(self._model, cache, part, prompt - 1, start=depth, flash=flash)
        for at in range(depth + prompt, size):
            run_alone(self._model, cache, ids[at : at + 1], 0, start=at, flash=flash)
        synchronize(self._backend.device)
        seconds = time.perf_counter() - started
        self.attention_bytes = None if program is None else program.attention_bytes()
        return seconds

    def _cache(self, size: int) -> Cache:
        """Return a cache of at least `size` slots."""
        if self._scratch is None or self._scratch.num_blocks * BLOCK_SIZE < size:
            self._scratch, self._filled = None, 0
            self._scratch = self._backend.new_cache(self._model, size)
        return self._scratch

    def _plan_scores(self, rows: int, context: int) -> None:
        """Raise what keeps plain attention from having all scores of `rows` tokens in memory."""
        if self._model.program is None:
            raise NotSupported(
                "plain attention is there for the native CPU kernels only",
                field="flash",
                hint="--flash on; --device cpu and --dtype auto use the kernels",
            )
        free = max(available_memory(self._backend.device), self._score_bytes + RESERVE)
        self._score_bytes = max(plan_scores(self._model.config, rows, context, free), self._score_bytes)
