"""Self-attention over the paged cache; the checkpoint itself says which biases and norms it has."""

from __future__ import annotations

import torch
from torch import Tensor

from ...kernels.cpu.program import Heads, Place, Recorder
from ...kernels.reference import AttentionShape
from ..batch import Batch
from ..config import ModelConfig
from ..weights import Weights
from .norm import RMSNorm
from .rope import Rotary


class Attention:
    """Grouped-query attention of one layer (Ainslie et al., 2023).

    Query and key norms exist where their tensors do, over one head or over all of them by the tensors' length;
    the projections may be one matrix (Phi 3).
    """

    def __init__(
        self, weights: Weights, config: ModelConfig, index: int, rotary: Rotary, norm: type[RMSNorm]
    ) -> None:
        self.config = config
        self.index = index
        self.rotary = rotary
        self.shape = AttentionShape(
            scale=config.attention_scale,
            window=config.sliding_window if config.sliding_layers[index] else None,
            softcap=config.attention_softcap,
        )
        hidden, dim = config.hidden_size, config.head_dim
        self._sizes = [config.num_heads * dim, config.num_kv_heads * dim, config.num_kv_heads * dim]
        self._fused = None
        if weights.has("qkv_proj.weight"):
            self._fused = weights.linear("qkv_proj", sum(self._sizes), hidden)
        else:
            names = ("q_proj", "k_proj", "v_proj")
            self._apart = [weights.linear(n, s, hidden) for n, s in zip(names, self._sizes, strict=True)]
        self._out = weights.linear("o_proj", hidden, self._sizes[0])
        self._q_norm = self._head_norm(weights, "q_norm", self._sizes[0], norm)
        self._k_norm = self._head_norm(weights, "k_norm", self._sizes[1], norm)

    def __call__(self, x: Tensor, batch: Batch) -> Tensor:
        """Map x [T, hidden] to [T, hidden]."""
        if self._fused is not None:
            q, k, v = torch.split(self._fused(x), self._sizes, dim=-1)
        else:
            q, k, v = (project(x) for project in self._apart)
        tables = batch.rotation(self.rotary)
        q = self.rotary(self._heads(q, self._q_norm), tables)
        k = self.rotary(self._heads(k, self._k_norm), tables)
        out = batch.attend(self.index, q, k, self._heads(v, None), self.shape)
        return self._out(out.flatten(1))

    def record(self, tape: Recorder, x: Place) -> Place:
        """Write the same down as a native program; returns the place of the result."""
        if self._fused is not None:
            fused = tape.buffer("qkv", sum(self._sizes))
            tape.product(x, self._fused, fused)
            q, k, v = (fused.part(sum(self._sizes[:i]), self._sizes[i]) for i in range(3))
        else:
            q, k, v = (tape.buffer(n, s) for n, s in zip("qkv", self._sizes, strict=True))
            tape.products(x, list(zip(self._apart, (q, k, v), strict=True)))
        angles = self.rotary.record(tape)
        for heads, norm in ((q, self._q_norm), (k, self._k_norm)):
            if norm is not None:
                tape.norm(heads, heads, norm.weight, norm.eps)
            tape.rotate(heads, self.config.head_dim, angles, interleaved=self.rotary.interleaved)
        out = tape.buffer("branch", x.width)
        shape = Heads(
            heads=self.config.num_heads,
            kv_heads=self.config.num_kv_heads,
            head_dim=self.config.head_dim,
            scale=self.shape.scale,
            window=self.shape.window or 0,
            softcap=self.shape.softcap,
        )
        tape.attend(q, k, v, q, self.index, shape)  # what a query finds takes its place
        tape.product(q, self._out, out)
        return out

    def _heads(self, x: Tensor, norm: RMSNorm | None) -> Tensor:
        """Split x [T, heads·D] into [T, heads, D], normalised before or after by the norm's own size."""
        heads = x.view(len(x), -1, self.config.head_dim)
        if norm is None:
            return heads
        if norm.weight.shape[0] == self.config.head_dim:
            return norm(heads).to(x.dtype)
        return norm(x).to(x.dtype).view_as(heads)

    def _head_norm(self, weights: Weights, name: str, size: int, norm: type[RMSNorm]) -> RMSNorm | None:
        if not weights.has(f"{name}.weight"):
            return None
        per_head = weights.shape(f"{name}.weight") == (self.config.head_dim,)
        return norm(weights, name, self.config.head_dim if per_head else size, self.config.norm_eps)
