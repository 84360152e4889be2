"""The engine: requests in, one step after another, outputs out; used by one thread at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor

from .blocks import BlockPool
from .controls import StopText, TextStreamLike
from .grammar.processor import processor_for
from .request import Output, Request
from .sampling.processors import processors_for
from .sampling.sampler import Sampler
from .scheduler import Scheduler, Step
from .sequence import Sequence
from .speculative.proposer import Proposer
from .thinking.automaton import Automaton


class Runner(Protocol):
    """Computes a step's tokens; the only part that knows the model and the contents of the cache."""

    block_size: int

    def run(self, step: Step) -> Iterable[Tensor]:
        """Return rows of float32 logits [vocab], or more: `sequence.num_logits(count)` for each item, in order."""


class Engine:
    """Brings together what schedules, computes and samples."""

    def __init__(
        self,
        runner: Runner,
        pool: BlockPool,
        scheduler: Scheduler,
        sampler: Sampler,
        detokenizer: Callable[[], TextStreamLike],
        token_bytes: Callable[[int], bytes] = lambda token: b"",
        proposer: Proposer | None = None,
    ) -> None:
        assert runner.block_size == pool.block_size, "the runner's blocks are not the pool's"
        assert scheduler.pool is pool, "the scheduler deals out another pool"
        self.runner = runner
        self.pool = pool
        self.scheduler = scheduler
        self.sampler = sampler
        self._detokenizer = detokenizer
        self._token_bytes = token_bytes
        self.proposer = proposer

    @property
    def has_work(self) -> bool:
        """Tell whether a step would do anything."""
        return self.scheduler.has_work

    def prepare(self, request: Request) -> Sequence:
        """Return the sequence of a valid request without queueing it; any thread may do so.

        Raises InvalidRequest, or ContextExceeded if the prompt leaves no room for an answer.
        """
        request.sampling.validate()
        self.scheduler.check_prompt(len(request.prompt))
        text = StopText(self._detokenizer(), request.sampling.stop)
        plan = request.thinking
        thinking = None if plan is None else Automaton(plan, self._token_bytes, request.eos_ids)
        processors = processors_for(request)
        if request.grammar is not None:
            room = self.scheduler.max_context - len(request.prompt)
            if request.sampling.max_tokens is not None:
                room = min(room, request.sampling.max_tokens)
            processors.append(processor_for(request.grammar, request.eos_ids, thinking, room))
        return Sequence(request, text, processors, thinking)

    def submit(self, request: Request) -> Sequence:
        """Queue a request. Raises InvalidRequest."""
        sequence = self.prepare(request)
        self.scheduler.add(sequence)
        return sequence

    def abort(self, request_id: str) -> Output | None:
        """End a request and free what it holds; None if it is not under way."""
        return self.scheduler.abort(request_id)

    def step(self) -> list[Output]:
        """Advance every scheduled sequence by one forward pass."""
        started = time.perf_counter()
        step = self.scheduler.schedule()
        if not step.items:
            return []
        with torch.inference_mode():
            logits = self.runner.run(step)
            tokens = self.sampler.sample(logits, step)
        outputs = self.scheduler.commit(step, tokens)
        if self.proposer is not None:
            computed = sum(count for _, count in step.items)
            self.proposer.observe(computed, time.perf_counter() - started)
            self.proposer.propose(self.scheduler.running)
        return outputs

    def reset(self) -> None:
        """Drop every request and the prefix cache, after an error that may have left either half done."""
        self.scheduler.clear()
