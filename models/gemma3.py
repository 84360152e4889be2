"""Gemma 3 (text): Gemma 2 with normalised queries and keys, no caps, and five windowed layers to each full one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import CausalLM, architecture
from .checkpoint.base import Checkpoint
from .config import section
from .gemma2 import Gemma2

# transformers' defaults: a config.json of a model that also sees leaves out what equals them.
_DEFAULTS = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "max_position_embeddings": 131072,
    "rope_theta": 1000000.0,
    "sliding_window": 4096,
}


@architecture(hf=("gemma3_text", "gemma3"), gguf=("gemma3",))
class Gemma3(Gemma2):
    """Windowed layers have a rotary embedding of their own, base 10000 and unscaled.

    Of a checkpoint that also sees (`gemma3`), the text part is loaded.
    """

    harmless = (*CausalLM.harmless, "vision_tower.", "multi_modal_projector.")
    unsaid = {
        "sliding_window_pattern": 6,
        "rope_local_base_freq": 10000.0,
        "tie_word_embeddings": True,
    }
    layers_of_27b = 62

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
        """Take the text part of config.json, with what it leaves unsaid."""
        if checkpoint.format == "safetensors":
            config = {**_DEFAULTS, **config, **section(config, "text_config")}
        return super().adapt(config, checkpoint)
