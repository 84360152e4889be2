"""What a model is made of: one typed record, from Hugging Face's names (of config.json, or translated from GGUF)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CorruptFile


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary embedding: dim of the head's entries turn; `kind` names the scaling rule of layers/rope.py.

    factor, low_freq, high_freq, beta_fast, beta_slow and original_context are the scaling rule's own numbers;
    attention_factor None means the rule's default. interleaved: pairs (2i, 2i+1) instead of (i, i + dim/2).
    """

    theta: float
    dim: int
    kind: str = "default"
    factor: float = 1.0
    original_context: int = 0
    attention_factor: float | None = None
    low_freq: float = 1.0
    high_freq: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    truncate: bool = True
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    interleaved: bool = False


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and constants of one model; multipliers are 1, softcaps 0 where a model has none."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_positions: int
    norm_eps: float
    rope: RopeConfig
    local_rope: RopeConfig | None
    sliding_window: int | None
    sliding_layers: tuple[bool, ...]
    attention_scale: float
    attention_softcap: float = 0.0
    logit_softcap: float = 0.0
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_divisor: float = 1.0
    num_experts: int = 0
    num_experts_per_token: int = 0
    expert_size: int = 0
    renormalise_experts: bool = True


class _Reader:
    """Typed look-ups in a config; a missing or ill-typed entry is a CorruptFile that names it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def number(self, name: str, default: float | None = None) -> float:
        value = self.config.get(name)
        if value is None:
            value = default
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise CorruptFile(f"the configuration has no usable '{name}' (found {value!r})")
        return value

    def size(self, name: str, default: int | None = None) -> int:
        value = self.number(name, default)
        if value != int(value) or not 0 < value < 2**31:
            raise CorruptFile(f"the configuration's '{name}' is {value!r}, not a positive size")
        return int(value)


def parse_config(config: Mapping[str, Any]) -> ModelConfig:
    """Read a config of Hugging Face's names into a ModelConfig; raises CorruptFile naming what is wrong."""
    read = _Reader(config)
    hidden, heads = read.size("hidden_size"), read.size("num_attention_heads")
    layers = read.size("num_hidden_layers")
    head_dim = read.size("head_dim", max(1, hidden // heads))
    kv_heads = read.size("num_key_value_heads", heads)
    if heads % kv_heads:
        raise CorruptFile(f"{heads} attention heads cannot share {kv_heads} key/value heads")
    window = _window(config)
    scalar = read.number("query_pre_attn_scalar", head_dim)
    experts = int(config.get("num_local_experts") or config.get("num_experts") or 0)
    rope, local_rope = _ropes(config, head_dim, read.size("max_position_embeddings", 2048))
    return ModelConfig(
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=read.size("intermediate_size", 1),
        vocab_size=read.size("vocab_size"),
        max_positions=read.size("max_position_embeddings", 2048),
        norm_eps=read.number("rms_norm_eps", 1e-6),
        rope=rope,
        local_rope=local_rope,
        sliding_window=window,
        sliding_layers=_sliding_layers(config, layers, window),
        attention_scale=read.number("attention_multiplier", scalar**-0.5),
        attention_softcap=read.number("attn_logit_softcapping", 0.0),
        logit_softcap=read.number("final_logit_softcapping", 0.0),
        embedding_multiplier=read.number("embedding_multiplier", 1.0),
        residual_multiplier=read.number("residual_multiplier", 1.0),
        logits_divisor=read.number("logits_scaling", 1.0),
        num_experts=experts,
        num_experts_per_token=read.size("num_experts_per_tok", 2) if experts else 0,
        expert_size=read.size("moe_intermediate_size", read.size("intermediate_size", 1)) if experts else 0,
        renormalise_experts=bool(config.get("norm_topk_prob", True)),
    )


def _window(config: Mapping[str, Any]) -> int | None:
    """Return the sliding window; a config may carry a size and still switch it off (Qwen 2)."""
    window = config.get("sliding_window")
    return int(window) if window and config.get("use_sliding_window", True) else None


def _sliding_layers(config: Mapping[str, Any], layers: int, window: int | None) -> tuple[bool, ...]:
    """Say for each layer whether the window holds there: by layer_types, by pattern, or everywhere."""
    if window is None:
        return (False,) * layers
    types = config.get("layer_types")
    if types:
        if len(types) != layers:
            raise CorruptFile(f"'layer_types' names {len(types)} layers of {layers}")
        return tuple(kind == "sliding_attention" for kind in types)
    pattern = int(config.get("sliding_window_pattern") or 0)
    if pattern:
        return tuple((index + 1) % pattern != 0 for index in range(layers))
    first = int(config.get("max_window_layers") or 0) if "use_sliding_window" in config else 0
    return tuple(index >= first for index in range(layers))


def _ropes(config: Mapping[str, Any], head_dim: int, context: int) -> tuple[RopeConfig, RopeConfig | None]:
    """Return the rotary embedding of full-attention layers, and of sliding ones where it differs."""
    parameters = config.get("rope_parameters") or {}
    if "full_attention" in parameters:
        full = _rope(parameters["full_attention"], config, head_dim, context)
        return full, _rope(parameters.get("sliding_attention") or {}, config, head_dim, context)
    scaling = {**(config.get("rope_scaling") or {}), **parameters}
    full = _rope(scaling, config, head_dim, context)
    local_theta = config.get("rope_local_base_freq")
    if local_theta is None:
        return full, None
    return full, RopeConfig(theta=float(local_theta), dim=full.dim, interleaved=full.interleaved)


def _rope(scaling: Mapping[str, Any], config: Mapping[str, Any], head_dim: int, context: int) -> RopeConfig:
    read = _Reader(scaling)
    outer = _Reader(config)
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    kind = {"su": "longrope", "none": "default"}.get(kind, kind)
    partial = read.number("partial_rotary_factor", outer.number("partial_rotary_factor", 1.0))
    original = scaling.get("original_max_position_embeddings") or config.get(
        "original_max_position_embeddings"
    )
    attention_factor = scaling.get("attention_factor")
    factor = scaling.get("factor")
    if factor is None:
        factor = context / int(original) if original and kind == "longrope" else 1.0
    return RopeConfig(
        theta=read.number("rope_theta", outer.number("rope_theta", 10000.0)),
        dim=int(head_dim * partial + 1e-6),
        kind=kind,
        factor=float(factor),
        original_context=int(original or context),
        attention_factor=None if attention_factor is None else float(attention_factor),
        low_freq=read.number("low_freq_factor", 1.0),
        high_freq=read.number("high_freq_factor", 4.0),
        beta_fast=read.number("beta_fast", 32.0),
        beta_slow=read.number("beta_slow", 1.0),
        mscale=read.number("mscale", 0.0),
        mscale_all_dim=read.number("mscale_all_dim", 0.0),
        truncate=bool(scaling.get("truncate", True)),
        short_factor=tuple(float(f) for f in scaling.get("short_factor") or ()),
        long_factor=tuple(float(f) for f in scaling.get("long_factor") or ()),
        interleaved=bool(config.get("rope_interleaved", False)),
    )
