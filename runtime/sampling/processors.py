"""What changes a sequence's logits before the samplers see them: the hook, and the bias."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from ..request import Request


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
        return logits.index_add_(0, self._ids, self._bias)

    def accept(self, token: int) -> None:
        """A constant needs no history."""


def processors_for(request: Request) -> list[LogitsProcessor]:
    """Return the processors that this request needs before its samplers (draw.py); often none."""
    params = request.sampling
    found: list[LogitsProcessor] = []
    bias = dict(params.logit_bias)
    if params.ignore_eos:
        bias.update(dict.fromkeys(request.eos_ids, -math.inf))
    if bias:
        found.append(LogitBias(bias))
    return found
