"""The feed-forward part of a layer: a gated network, or a choice among experts."""

from __future__ import annotations

import torch
from torch import Tensor

from ...kernels.cpu.program import Place, Recorder
from ...kernels.dispatch import find
from ..config import ModelConfig
from ..weights import Weights


class GatedMLP:
    """down(act(gate(x)) · up(x)), with gate and up in one matrix where the checkpoint has them so."""

    def __init__(self, weights: Weights, config: ModelConfig, activation: str) -> None:
        hidden, inner = config.hidden_size, config.intermediate_size
        self._fused = None
        if weights.has("gate_up_proj.weight"):
            self._fused = weights.linear("gate_up_proj", 2 * inner, hidden)
        else:
            self._gate = weights.linear("gate_proj", inner, hidden)
            self._up = weights.linear("up_proj", inner, hidden)
        self._down = weights.linear("down_proj", hidden, inner)
        self._activation = activation
        self._activate = find(activation, device=weights.device.type)

    def record(self, tape: Recorder, x: Place) -> Place:
        """Write the same down as a native program; returns the place of the result."""
        inner, out = self._down.shape[1], tape.buffer("branch", x.width)
        gate = tape.buffer("gate", inner)
        if self._fused is not None:
            both = tape.buffer("gate and up", 2 * inner)
            tape.product(x, self._fused, both)
            tape.gate(both.part(0, inner), both.part(inner, inner), gate, self._activation)
        else:
            tape.gated_product(x, self._gate, self._up, gate, self._activation)
        tape.product(gate, self._down, out)
        return out

    def __call__(self, x: Tensor) -> Tensor:
        """Map x [T, hidden] to [T, hidden]."""
        if self._fused is not None:
            gate, up = self._fused(x).chunk(2, dim=-1)
        else:
            gate, up = self._gate(x), self._up(x)
        return self._down(self._activate(gate, up))


class Experts:
    """A sparse mixture: each token goes through the few gated networks that its router prefers."""

    def __init__(self, weights: Weights, config: ModelConfig, activation: str) -> None:
        hidden, inner, count = config.hidden_size, config.expert_size, config.num_experts
        self._top_k = config.num_experts_per_token
        self._renormalise = config.renormalise_experts
        self._router = weights.linear("gate", count, hidden)
        self._gate = weights.experts("gate_proj", count, inner, hidden)
        self._up = weights.experts("up_proj", count, inner, hidden)
        self._down = weights.experts("down_proj", count, hidden, inner)
        self._activation = activation
        self._activate = find(activation, device=weights.device.type)
        self._route = find("route", device=weights.device.type)

    def record(self, tape: Recorder, x: Place) -> Place:
        """Write the same down as a native program; returns the place of the result."""
        router, out = tape.buffer("router", self._router.shape[0]), tape.buffer("branch", x.width)
        tape.product(x, self._router, router)
        matrices = (self._gate, self._up, self._down)
        tape.experts(
            x, router, out, matrices, self._top_k, renormalise=self._renormalise, activation=self._activation
        )
        return out

    def __call__(self, x: Tensor) -> Tensor:
        """Map x [T, hidden] to [T, hidden], float32."""
        shares, chosen = self._route(self._router(x), self._top_k, self._renormalise)
        out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        for expert in chosen.unique().tolist():
            token, rank = (chosen == expert).nonzero(as_tuple=True)
            rows = x[token]
            inner = self._activate(self._gate[expert](rows), self._up[expert](rows))
            out.index_add_(0, token, self._down[expert](inner).float() * shares[token, rank, None])
        return out
