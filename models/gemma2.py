"""Gemma 2: norms on both sides, capped scores and logits, a window on every other layer."""

from __future__ import annotations

from typing import Any

from .base import CausalLM, architecture
from .checkpoint.base import Checkpoint
from .checkpoint.names import SANDWICH_NORMS
from .layers.layer import SandwichLayer
from .layers.norm import OffsetRMSNorm


@architecture(hf=("gemma2",), gguf=("gemma2",))
class Gemma2(CausalLM):
    """Embeddings are scaled by √hidden; the head is the embedding."""

    norm = OffsetRMSNorm
    layer = SandwichLayer
    activation = "gelu_mul"
    gguf_names = SANDWICH_NORMS

    @classmethod
    def adapt(cls, config: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
        """Add the embedding's scale, the window's pattern and, for GGUF, the 27B model's attention scale."""
        filled = {"sliding_window_pattern": 2, **config, "embedding_multiplier": config["hidden_size"] ** 0.5}
        if checkpoint.format == "gguf" and config["num_hidden_layers"] == 46:
            filled["query_pre_attn_scalar"] = config["hidden_size"] // config["num_attention_heads"]
        return filled
