"""Gemma 2: norms on both sides, capped scores and logits, a window on every other layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .base import CausalLM, architecture
from .checkpoint.base import Checkpoint
from .checkpoint.names import SANDWICH_NORMS
from .config import size
from .layers.layer import SandwichLayer
from .layers.norm import OffsetRMSNorm


@architecture(hf=("gemma2",), gguf=("gemma2",))
class Gemma2(CausalLM):
    """Embeddings are scaled by √hidden; the head is the embedding.

    unsaid: what holds where the files say nothing, as in the first of them.
    """

    norm = OffsetRMSNorm
    layer = SandwichLayer
    activation = "gelu_mul"
    gguf_names = SANDWICH_NORMS
    unsaid: ClassVar[Mapping[str, Any]] = {
        "sliding_window": 4096,
        "sliding_window_pattern": 2,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "tie_word_embeddings": True,
    }
    layers_of_27b: ClassVar[int] = 46

    @classmethod
    def adapt(cls, config: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
        """Add the embedding's scale, what files leave unsaid and, for GGUF, the 27B model's attention scale."""
        hidden = size(config, "hidden_size")
        filled = {**cls.unsaid, **config, "embedding_multiplier": hidden**0.5}
        if checkpoint.format == "gguf" and config.get("num_hidden_layers") == cls.layers_of_27b:
            filled["query_pre_attn_scalar"] = hidden // size(config, "num_attention_heads")
        return filled
