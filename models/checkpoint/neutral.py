"""GGUF's metadata in the words of Hugging Face's config.json, so that architectures read one vocabulary."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import CorruptFile

RENAMED = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "attention.scale": "attention_multiplier",
    "logit_scale": "logits_scaling",
    "expert_count": "num_local_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_weights_norm": "norm_topk_prob",
    "rope.freq_base_swa": "rope_local_base_freq",
}

_SCALING = {
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_attn_factor": "attention_factor",
    "rope.scaling.attn_factor": "attention_factor",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
    "rope.freq_base": "rope_theta",
}


def neutral_config(metadata: Mapping[str, object]) -> dict[str, object]:
    """Translate the keys of `general.architecture`; raises CorruptFile where a list has more than one value.

    Keys that hold one number per layer (head counts, feed-forward sizes) must be the same in every layer.
    """
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise CorruptFile("the file does not name its architecture (general.architecture)")

    def value(key: str) -> object | None:
        found = metadata.get(f"{architecture}.{key}")
        if isinstance(found, list | tuple) and key != "attention.sliding_window_pattern":
            if not found or any(item != found[0] for item in found):
                raise CorruptFile(f"{architecture}.{key} differs from layer to layer; that is not supported")
            first: object = found[0]
            return first
        return found

    config: dict[str, object] = {"model_type": architecture}
    config |= {name: value(key) for key, name in RENAMED.items() if value(key) is not None}
    # As in llama.cpp, 0 stands for nothing.
    scaling = {name: value(key) for key, name in _SCALING.items() if value(key) not in (None, 0)}
    if "factor" not in scaling and value("rope.scale_linear"):
        scaling["factor"] = value("rope.scale_linear")
    kind = value("rope.scaling.type")
    if kind is None and "factor" in scaling:
        kind = "linear"
    if kind is not None:
        scaling["rope_type"] = kind
    dimensions, head_dim = value("rope.dimension_count"), value("attention.key_length")
    if isinstance(dimensions, int) and isinstance(head_dim, int) and 0 < dimensions < head_dim:
        scaling["partial_rotary_factor"] = dimensions / head_dim
    config["rope_parameters"] = scaling
    config |= _windowed_layers(value("attention.sliding_window_pattern"))
    if not head_dim and isinstance(dimensions, int):
        config |= _head_dim_from_rotary(config, dimensions)
    vocabulary = metadata.get("tokenizer.ggml.tokens")
    size = value("vocab_size")
    if size is None and isinstance(vocabulary, list | tuple):
        size = len(vocabulary)
    if size is not None:
        config["vocab_size"] = size
    return config


def _windowed_layers(pattern: object | None) -> dict[str, object]:
    """Return which layers the window holds in: a flag per layer, or every how many layers one is full."""
    if isinstance(pattern, list | tuple):
        return {
            "layer_types": ["sliding_attention" if windowed else "full_attention" for windowed in pattern]
        }
    if pattern is not None and not isinstance(pattern, int):
        raise CorruptFile(f"the file's attention.sliding_window_pattern is {pattern!r}")
    return {} if pattern is None else {"sliding_window_pattern": pattern}


def _head_dim_from_rotary(config: Mapping[str, object], dimensions: int) -> dict[str, object]:
    """Return partial rotation where the file gives no head size and rotates less than hidden/heads."""
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if isinstance(hidden, int) and isinstance(heads, int) and heads and 0 < dimensions < hidden // heads:
        return {"partial_rotary_factor": dimensions / (hidden // heads)}
    return {}
