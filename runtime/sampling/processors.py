"""What changes a sequence's logits before the filters see them: the hook, and two that requests ask for."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from ..request import Request
from .filters import add_bias, penalize
from .params import SamplingParams


class LogitsProcessor(Protocol):
    """One sequence's state that reshapes its logits; tokens only go forward, so nothing is rolled back."""

    def apply(self, logits: Tensor) -> Tensor:
        """Return the logits [vocab] for the next token; the given ones, the sequence's own, may be changed."""

    def accept(self, token: int) -> None:
        """Note a token that the sequence has taken."""


class LogitBias:
    """Adds a constant to chosen logits; ids beyond the vocabulary have no effect."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self._ids = torch.tensor(list(bias), dtype=torch.long)
        self._bias = torch.tensor(list(bias.values()), dtype=torch.float32)
        # The device and the vocabulary's size that the two tensors are cut to.
        self._fits: tuple[torch.device, int] | None = None

    def apply(self, logits: Tensor) -> Tensor:
        """Return the logits [vocab] with the bias added."""
        if self._fits != (logits.device, logits.shape[0]):
            self._fits = (logits.device, logits.shape[0])
            known = self._ids < logits.shape[0]
            self._ids, self._bias = self._ids[known].to(logits.device), self._bias[known].to(logits.device)
        return add_bias(logits, self._ids, self._bias)

    def accept(self, token: int) -> None:
        """A constant needs no history."""


class Penalties:
    """Penalises the tokens of a window over the latest tokens, those of the prompt among them."""

    def __init__(self, params: SamplingParams, history: Iterable[int]) -> None:
        self._params = params
        self._window: deque[int] = deque()
        self._counts: Counter[int] = Counter()
        for token in history:
            self.accept(token)

    def apply(self, logits: Tensor) -> Tensor:
        """Return the logits [vocab] with every token of the window penalised."""
        if not self._counts:
            return logits
        ids = torch.tensor(list(self._counts), device=logits.device)
        counts = torch.tensor(list(self._counts.values()), dtype=torch.float32, device=logits.device)
        return penalize(logits, ids, counts, self._params)

    def accept(self, token: int) -> None:
        """Move the window one token on."""
        self._counts[token] += 1
        if self._params.repeat_last_n < 0:
            return
        self._window.append(token)
        if len(self._window) > self._params.repeat_last_n:
            oldest = self._window.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]


def processors_for(request: Request) -> list[LogitsProcessor]:
    """Return the processors that this request needs, in the order in which they apply; often none."""
    params = request.sampling
    found: list[LogitsProcessor] = []
    bias = dict(params.logit_bias)
    if params.ignore_eos:
        bias.update(dict.fromkeys(request.eos_ids, -math.inf))
    if bias:
        found.append(LogitBias(bias))
    penalised = (params.repeat_penalty, params.presence_penalty, params.frequency_penalty) != (1.0, 0.0, 0.0)
    if penalised and params.repeat_last_n != 0:
        recent = request.prompt if params.repeat_last_n < 0 else request.prompt[-params.repeat_last_n :]
        found.append(Penalties(params, recent))
    return found
