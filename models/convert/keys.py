"""A model's configuration as the metadata keys of its GGUF architecture."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..checkpoint.gguf_values import Typed, ValueType
from ..checkpoint.neutral import RENAMED
from ..config import ModelConfig, RopeConfig
from ..layers.rope import Rotary

# What a reader cannot do without; of the rest a file says what it must.
_ALWAYS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "max_position_embeddings", "rms_norm_eps", "num_local_experts", "num_experts_per_tok",
    "rope_local_base_freq",
)  # fmt: skip
# What files do not say unless they must: llama.cpp has it built into its architectures.
_BUILT_IN = ("norm_topk_prob",)


def common_keys(config: ModelConfig, architecture: str) -> dict[str, Typed]:
    """Return the keys that every architecture has."""
    said = _said(config)
    keys = {key: said[name] for key, name in RENAMED.items() if name in _ALWAYS and said[name] is not None}
    keys["attention.value_length"] = config.head_dim
    keys["vocab_size"] = config.vocab_size
    keys |= _rope_keys(config.rope)
    return {f"{architecture}.{key}": typed(value) for key, value in keys.items()}


def further_keys(
    config: ModelConfig, implied: ModelConfig, explicit: Mapping[str, object], architecture: str
) -> dict[str, Typed]:
    """Return the keys whose values the checkpoint names, or a reader would not guess.

    implied: what the architecture makes of the common keys alone. explicit: the checkpoint's own configuration.
    """
    said, guessed = _said(config), _said(implied)
    keys = {
        key: said[name]
        for key, name in RENAMED.items()
        if name not in _ALWAYS
        and said[name] is not None
        and ((explicit.get(name) is not None and name not in _BUILT_IN) or said[name] != guessed[name])
    }
    return {f"{architecture}.{key}": typed(value) for key, value in keys.items()}


def pattern_keys(config: ModelConfig, implied: ModelConfig, architecture: str) -> dict[str, Typed]:
    """Return which layers have the window, where some have and a reader would take others.

    implied: what the architecture makes of all other keys.
    """
    if len(set(config.sliding_layers)) < 2 or config.sliding_layers == implied.sliding_layers:
        return {}
    return {f"{architecture}.attention.sliding_window_pattern": typed(list(config.sliding_layers))}


def typed(value: object) -> Typed:
    """Give a value the type that GGUF's keys of its kind have."""
    if isinstance(value, bool):
        return Typed(value, ValueType.BOOL)
    if isinstance(value, int):
        return Typed(value, ValueType.UINT32)
    if isinstance(value, float):
        return Typed(value, ValueType.FLOAT32)
    if isinstance(value, str):
        return Typed(value, ValueType.STRING)
    assert isinstance(value, list)
    return Typed(value, ValueType.ARRAY, typed(value[0]).kind)


def _said(config: ModelConfig) -> dict[str, object]:
    """Return a configuration under Hugging Face's names; None for what the model does not have."""
    sparse = config.num_experts > 0
    return {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": float(config.norm_eps),
        "sliding_window": config.sliding_window if any(config.sliding_layers) else None,
        "attn_logit_softcapping": float(config.attention_softcap) or None,
        "final_logit_softcapping": float(config.logit_softcap) or None,
        "embedding_multiplier": float(config.embedding_multiplier),
        "residual_multiplier": float(config.residual_multiplier),
        "attention_multiplier": float(config.attention_scale),
        "logits_scaling": float(config.logits_divisor),
        "num_local_experts": config.num_experts if sparse else None,
        "num_experts_per_tok": config.num_experts_per_token if sparse else None,
        "moe_intermediate_size": config.expert_size if sparse else None,
        "norm_topk_prob": config.renormalise_experts if sparse else None,
        "rope_local_base_freq": float(config.local_rope.theta) if config.local_rope else None,
    }


def _rope_keys(rope: RopeConfig) -> dict[str, object]:
    """Return the rotary embedding's keys; llama3's rule becomes a tensor, a dynamic one has no words."""
    keys: dict[str, object] = {"rope.dimension_count": rope.dim, "rope.freq_base": float(rope.theta)}
    if rope.kind in ("linear", "yarn"):
        keys |= {"rope.scaling.type": rope.kind, "rope.scaling.factor": float(rope.factor)}
    if rope.kind == "yarn":
        keys["rope.scaling.original_context_length"] = rope.original_context
        keys |= {"rope.scaling.yarn_beta_fast": float(rope.beta_fast)}
        keys |= {"rope.scaling.yarn_beta_slow": float(rope.beta_slow)}
        if rope.attention_factor is not None or rope.mscale:
            keys["rope.scaling.yarn_attn_factor"] = _magnitude(rope)
    if rope.kind == "longrope":
        keys["rope.scaling.original_context_length"] = rope.original_context
        keys["rope.scaling.attn_factor"] = _magnitude(rope)
    return keys


def _magnitude(rope: RopeConfig) -> float:
    """Return by what the rule scales queries and keys."""
    return float(Rotary(rope, rope.original_context, torch.device("cpu")).scale)
