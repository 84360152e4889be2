"""Gemma 3 (text): Gemma 2 with normalised queries and keys, no caps, and five windowed layers to each full one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import CausalLM, architecture
from .checkpoint.base import Checkpoint
from .checkpoint.names import SANDWICH_NORMS
from .layers.layer import SandwichLayer
from .layers.norm import OffsetRMSNorm


@architecture(hf=("gemma3_text", "gemma3"), gguf=("gemma3",))
class Gemma3(CausalLM):
    """Windowed layers have a rotary embedding of their own, base 10000 and unscaled.

    Of a checkpoint that also sees (`gemma3`), the text part is loaded.
    """

    norm = OffsetRMSNorm
    layer = SandwichLayer
    activation = "gelu_mul"
    gguf_names = SANDWICH_NORMS
    harmless = (*CausalLM.harmless, "vision_tower.", "multi_modal_projector.")

    @classmethod
    def translate(cls, checkpoint: Checkpoint) -> Callable[[str], str]:
        """Look below `language_model` where the text is part of a larger model."""
        plain = super().translate(checkpoint)
        if checkpoint.has("language_model.model.norm.weight"):
            return lambda name: "language_model." + plain(name)
        if checkpoint.has("model.language_model.norm.weight"):
            return lambda name: plain(name).replace("model.", "model.language_model.", 1)
        return plain

    @classmethod
    def adapt(cls, config: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
        """Add the embedding's scale, the window's pattern, the local base and, for GGUF, 27B's attention scale."""
        config = {**config, **config.get("text_config", {})}
        filled = {
            "sliding_window_pattern": 6,
            "rope_local_base_freq": 10000.0,
            **config,
            "embedding_multiplier": config["hidden_size"] ** 0.5,
        }
        if checkpoint.format == "gguf" and config["num_hidden_layers"] == 62:
            filled["query_pre_attn_scalar"] = config["hidden_size"] // config["num_attention_heads"]
        return filled
