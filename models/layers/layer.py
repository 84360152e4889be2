"""A decoder layer: attention and feed-forward on a residual stream, in three arrangements of their norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..batch import Batch
from ..config import ModelConfig
from ..weights import Weights
from .norm import RMSNorm


@dataclass(frozen=True, slots=True)
class Parts:
    """What a layer is put together from."""

    attention: Callable[[Tensor, Batch], Tensor]
    mlp: Callable[[Tensor], Tensor]
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
