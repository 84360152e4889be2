"""A decoder layer: attention and feed-forward on a residual stream, in three arrangements of their norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ...kernels.cpu.program import Place, Recorder
from ..batch import Batch
from ..config import ModelConfig
from ..weights import Weights
from .norm import RMSNorm


class Attends(Protocol):
    """The attention of a layer."""

    def __call__(self, x: Tensor, batch: Batch, /) -> Tensor: ...
    def record(self, tape: Recorder, x: Place, /) -> Place: ...


class Feeds(Protocol):
    """The feed-forward part of a layer."""

    def __call__(self, x: Tensor, /) -> Tensor: ...
    def record(self, tape: Recorder, x: Place, /) -> Place: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a layer is put together from."""

    attention: Attends
    mlp: Feeds
    norm: type[RMSNorm]


class PreNormLayer:
    """x + attention(norm(x)), then x + mlp(norm(x)): Llama's arrangement."""

    def __init__(self, weights: Weights, config: ModelConfig, parts: Parts) -> None:
        self.attention, self.mlp = parts.attention, parts.mlp
        self.multiplier = config.residual_multiplier
        self._load_norms(weights, config, parts.norm)

    def _load_norms(self, weights: Weights, config: ModelConfig, norm: type[RMSNorm]) -> None:
        size, eps = config.hidden_size, config.norm_eps
        self.before_attention = norm(weights, "input_layernorm", size, eps)
        self.before_mlp = norm(weights, "post_attention_layernorm", size, eps)

    def __call__(self, x: Tensor, batch: Batch) -> Tensor:
        """Map the residual stream x [T, hidden], float32, to the next layer's."""
        x = x + self.attention(self.before_attention(x), batch) * self.multiplier
        return x + self.mlp(self.before_mlp(x)) * self.multiplier

    def record(self, tape: Recorder, x: Place) -> None:
        """Write the same down as a native program."""
        tape.residual(x, self.attention.record(tape, self.before_attention.record(tape, x)), self.multiplier)
        tape.residual(x, self.mlp.record(tape, self.before_mlp.record(tape, x)), self.multiplier)


class SandwichLayer(PreNormLayer):
    """Norms before and after both parts: Gemma 2 and 3."""

    def _load_norms(self, weights: Weights, config: ModelConfig, norm: type[RMSNorm]) -> None:
        size, eps = config.hidden_size, config.norm_eps
        self.before_attention = norm(weights, "input_layernorm", size, eps)
        self.after_attention = norm(weights, "post_attention_layernorm", size, eps)
        self.before_mlp = norm(weights, "pre_feedforward_layernorm", size, eps)
        self.after_mlp = norm(weights, "post_feedforward_layernorm", size, eps)

    def __call__(self, x: Tensor, batch: Batch) -> Tensor:
        """Map the residual stream x [T, hidden], float32, to the next layer's."""
        x = x + self.after_attention(self.attention(self.before_attention(x), batch))
        return x + self.after_mlp(self.mlp(self.before_mlp(x)))

    def record(self, tape: Recorder, x: Place) -> None:
        """Write the same down as a native program."""
        y = self.attention.record(tape, self.before_attention.record(tape, x))
        tape.residual(x, y, 1.0, self.after_attention.weight, self.after_attention.eps)
        y = self.mlp.record(tape, self.before_mlp.record(tape, x))
        tape.residual(x, y, 1.0, self.after_mlp.weight, self.after_mlp.eps)


class PostNormLayer(PreNormLayer):
    """x + norm(attention(x)), then x + norm(mlp(x)): OLMo 2."""

    def _load_norms(self, weights: Weights, config: ModelConfig, norm: type[RMSNorm]) -> None:
        size, eps = config.hidden_size, config.norm_eps
        self.after_attention = norm(weights, "post_attention_layernorm", size, eps)
        self.after_mlp = norm(weights, "post_feedforward_layernorm", size, eps)

    def __call__(self, x: Tensor, batch: Batch) -> Tensor:
        """Map the residual stream x [T, hidden], float32, to the next layer's."""
        x = x + self.after_attention(self.attention(x, batch))
        return x + self.after_mlp(self.mlp(x))

    def record(self, tape: Recorder, x: Place) -> None:
        """Write the same down as a native program."""
        tape.residual(
            x, self.attention.record(tape, x), 1.0, self.after_attention.weight, self.after_attention.eps
        )
        tape.residual(x, self.mlp.record(tape, x), 1.0, self.after_mlp.weight, self.after_mlp.eps)
