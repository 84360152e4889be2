"""What a model is made of: one typed record, from Hugging Face's names (of config.json, or translated from GGUF)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CorruptFile, NotSupported

# Beyond any real model; they keep a damaged entry from costing memory, and numbers within float32.
_MAX_LAYERS = 1 << 14
_HUGE = 1e18


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
        return _number(name, default if value is None else value)

    def positive(self, name: str, default: float | None = None) -> float:
        value = self.number(name, default)
        if value <= 0:
            raise CorruptFile(f"the configuration's '{name}' is {value!r}, not above 0")
        return value

    def count(self, name: str, default: int | None = None, *, most: int = 2**31 - 1) -> int:
        value = self.number(name, default)
        if value != int(value) or not 0 <= value <= most:
            raise CorruptFile(f"the configuration's '{name}' is {value!r}, not a whole number up to {most}")
        return int(value)

    def size(self, name: str, default: int | None = None, *, most: int = 2**31 - 1) -> int:
        value = self.count(name, default, most=most)
        if not value:
            raise CorruptFile(f"the configuration's '{name}' is 0, not a positive size")
        return value

    def numbers(self, name: str) -> tuple[float, ...]:
        return tuple(_number(name, value) for value in self.items(name))

    def items(self, name: str) -> list[Any]:
        value = self.config.get(name) or []
        if not isinstance(value, list | tuple):
            raise CorruptFile(f"the configuration's '{name}' is {value!r}, not a list")
        return list(value)


def size(config: Mapping[str, Any], name: str) -> int:
    """Return a positive size of a config; raises CorruptFile unless it has one."""
    return _Reader(config).size(name)


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a config within a config, empty where absent; raises CorruptFile if it is something else."""
    value = config.get(name) or {}
    if not isinstance(value, Mapping):
        raise CorruptFile(f"the configuration's '{name}' is {value!r}, not an object")
    return value


def parse_config(config: Mapping[str, Any]) -> ModelConfig:
    """Read a config of Hugging Face's names into a ModelConfig; raises CorruptFile naming what is wrong."""
    read = _Reader(config)
    hidden, heads = read.size("hidden_size"), read.size("num_attention_heads")
    layers = read.size("num_hidden_layers", most=_MAX_LAYERS)
    head_dim = read.size("head_dim", max(1, hidden // heads))
    kv_heads = read.size("num_key_value_heads", heads)
    if heads % kv_heads:
        raise CorruptFile(f"{heads} attention heads cannot share {kv_heads} key/value heads")
    window = _window(read)
    inner = read.size("intermediate_size", 1)
    experts = read.count("num_local_experts", 0) or read.count("num_experts", 0)
    positions = read.size("max_position_embeddings", 2048)
    rope, local_rope = _ropes(config, head_dim, positions)
    return ModelConfig(
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=inner,
        vocab_size=read.size("vocab_size"),
        max_positions=positions,
        norm_eps=read.positive("rms_norm_eps", 1e-6),
        rope=rope,
        local_rope=local_rope,
        sliding_window=window,
        sliding_layers=_sliding_layers(read, layers, window),
        attention_scale=read.number(
            "attention_multiplier", read.positive("query_pre_attn_scalar", head_dim) ** -0.5
        ),
        attention_softcap=read.number("attn_logit_softcapping", 0.0),
        logit_softcap=read.number("final_logit_softcapping", 0.0),
        embedding_multiplier=read.number("embedding_multiplier", 1.0),
        residual_multiplier=read.number("residual_multiplier", 1.0),
        logits_divisor=read.positive("logits_scaling", 1.0),
        num_experts=experts,
        num_experts_per_token=read.size("num_experts_per_tok", 2, most=experts) if experts else 0,
        expert_size=read.size("moe_intermediate_size", inner) if experts else 0,
        renormalise_experts=bool(config.get("norm_topk_prob", True)),
    )


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -_HUGE < value < _HUGE:
        raise CorruptFile(f"the configuration has no usable '{name}' (found {value!r:.80})")
    return value


def _window(read: _Reader) -> int | None:
    """Return the sliding window; a config may carry a size and still switch it off (Qwen 2)."""
    return read.count("sliding_window", 0) or None if read.config.get("use_sliding_window", True) else None


def _sliding_layers(read: _Reader, layers: int, window: int | None) -> tuple[bool, ...]:
    """Say for each layer whether the window holds there: by layer_types, by pattern, or everywhere."""
    if window is None:
        return (False,) * layers
    types = read.items("layer_types")
    if types:
        if len(types) != layers:
            raise CorruptFile(f"'layer_types' names {len(types)} layers of {layers}")
        for kind in types:
            if kind not in ("full_attention", "sliding_attention"):
                raise NotSupported(f"unknown kind of layer {kind!r:.80}")
        return tuple(kind == "sliding_attention" for kind in types)
    pattern = read.count("sliding_window_pattern", 0)
    if pattern:
        return tuple((index + 1) % pattern != 0 for index in range(layers))
    first = read.count("max_window_layers", 0) if "use_sliding_window" in read.config else 0
    return tuple(index >= first for index in range(layers))


def _ropes(config: Mapping[str, Any], head_dim: int, context: int) -> tuple[RopeConfig, RopeConfig | None]:
    """Return the rotary embedding of full-attention layers, and of sliding ones where it differs."""
    parameters = section(config, "rope_parameters")
    if "full_attention" in parameters:
        full = _rope(section(parameters, "full_attention"), config, head_dim, context)
        return full, _rope(section(parameters, "sliding_attention"), config, head_dim, context)
    full = _rope({**section(config, "rope_scaling"), **parameters}, config, head_dim, context)
    if config.get("rope_local_base_freq") is None:
        return full, None
    theta = _Reader(config).positive("rope_local_base_freq")
    return full, RopeConfig(theta=theta, dim=full.dim, interleaved=full.interleaved)


def _rope(scaling: Mapping[str, Any], config: Mapping[str, Any], head_dim: int, context: int) -> RopeConfig:
    read, outer = _Reader(scaling), _Reader(config)
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    kind = {"su": "longrope", "none": "default"}.get(kind, kind)
    partial = read.positive("partial_rotary_factor", outer.positive("partial_rotary_factor", 1.0))
    dim = int(head_dim * partial + 1e-6)
    if dim % 2 or not 0 < dim <= head_dim:
        raise CorruptFile(f"rotary embedding cannot turn {dim} of a head's {head_dim} entries")
    named = "original_max_position_embeddings"
    original = read.count(named, 0) or outer.count(named, 0)
    return RopeConfig(
        theta=read.positive("rope_theta", outer.positive("rope_theta", 10000.0)),
        dim=dim,
        kind=kind,
        factor=read.positive("factor", context / original if original and kind == "longrope" else 1.0),
        original_context=original or context,
        attention_factor=None if scaling.get("attention_factor") is None else read.number("attention_factor"),
        low_freq=read.number("low_freq_factor", 1.0),
        high_freq=read.number("high_freq_factor", 4.0),
        beta_fast=read.number("beta_fast", 32.0),
        beta_slow=read.number("beta_slow", 1.0),
        mscale=read.number("mscale", 0.0),
        mscale_all_dim=read.number("mscale_all_dim", 0.0),
        truncate=bool(scaling.get("truncate", True)),
        short_factor=read.numbers("short_factor"),
        long_factor=read.numbers("long_factor"),
        interleaved=bool(config.get("rope_interleaved", False)),
    )
