"""Tiny random checkpoints of every architecture, made by `transformers`, and the same weights as GGUF."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

VOCAB = 128

BASE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
PARTIAL = {"partial_rotary_factor": 0.5}


@dataclass(frozen=True)
class Tiny:
    """One tiny model: its transformers classes, its settings, and its name in GGUF (None: no such GGUF)."""

    hf: str
    gguf: str | None
    config: dict[str, Any] = field(default_factory=dict)


def _rope(kind: str, **numbers: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **numbers}}


_LONGROPE = {
    "original_max_position_embeddings": 64,
    **_rope(
        "longrope",
        original_max_position_embeddings=64,
        short_factor=[1.0 + 0.1 * i for i in range(8)],
        long_factor=[1.0 + 0.5 * i for i in range(8)],
    ),
}

TINY: dict[str, Tiny] = {
    "llama": Tiny("Llama", "llama"),
    "llama-tied-biased": Tiny(
        "Llama", "llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": False}
    ),
    "llama-llama3": Tiny(
        "Llama",
        "llama",
        _rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
    "llama-linear": Tiny("Llama", "llama", _rope("linear", factor=4.0)),
    "llama-dynamic": Tiny("Llama", None, {"max_position_embeddings": 32, **_rope("dynamic", factor=2.0)}),
    "llama-yarn": Tiny(
        "Llama",
        "llama",
        _rope("yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=8.0, beta_slow=1.0),
    ),
    "mistral": Tiny("Mistral", None, {"sliding_window": 16}),
    "mixtral": Tiny(
        "Mixtral", None, {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}
    ),
    "qwen2": Tiny("Qwen2", "qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": Tiny(
        "Qwen2", None, {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
    ),
    "qwen3": Tiny("Qwen3", "qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "qwen3moe": Tiny(
        "Qwen3Moe",
        "qwen3moe",
        {
            "head_dim": 32,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 96,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
        },
    ),
    "qwen3moe-mixed": Tiny(
        "Qwen3Moe",
        None,
        {
            "head_dim": 32,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 96,
            "mlp_only_layers": [1],
            "norm_topk_prob": False,
        },
    ),
    "gemma2": Tiny(
        "Gemma2",
        "gemma2",
        {
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 16,
            "tie_word_embeddings": True,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma3": Tiny(
        "Gemma3",
        "gemma3",
        {
            "num_hidden_layers": 7,
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 16,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    ),
    "phi3": Tiny("Phi3", "phi3", {"sliding_window": None}),
    "phi3-longrope": Tiny("Phi3", "phi3", {"sliding_window": None, **_LONGROPE}),
    "phi3-partial": Tiny(
        "Phi3",
        "phi3",
        {
            "sliding_window": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, **PARTIAL},
        },
    ),
    "olmo2": Tiny("Olmo2", "olmo2"),
    "olmo3": Tiny(
        "Olmo3",
        "olmo2",
        {
            "num_hidden_layers": 5,
            "sliding_window": 16,
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "yarn",
                    "rope_theta": 10000.0,
                    "factor": 8.0,
                    "original_max_position_embeddings": 32,
                    "beta_fast": 32.0,
                    "beta_slow": 1.0,
                },
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    ),
    "granite": Tiny(
        "Granite",
        "granite",
        {
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.3,
            "logits_scaling": 4.0,
        },
    ),
}


def build(name: str, seed: int = 0) -> torch.nn.Module:
    """Return the transformers model, float32, with weights large enough that its logits are far from flat."""
    import transformers

    tiny = TINY[name]
    prefix = tiny.hf
    config_class = getattr(transformers, f"{prefix}TextConfig" if prefix == "Gemma3" else f"{prefix}Config")
    model_class = getattr(transformers, f"{prefix}ForCausalLM")
    settings = {**BASE, **tiny.config}
    if prefix == "Gemma2" or prefix == "Gemma3":
        settings["attn_implementation"] = "eager"
    config = config_class(**settings)
    torch.manual_seed(seed)
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            spread = 0.1 if parameter.ndim == 1 else 0.15
            centre = 1.0 if parameter.ndim == 1 and "norm" in key and "Gemma" not in prefix else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread + centre)
    return model


def save(name: str, folder: Path, **options: Any) -> torch.nn.Module:
    """Save the model as a Hugging Face folder (without a tokenizer) and return it."""
    model = build(name)
    model.save_pretrained(folder, **options)
    return model


_RENAMES = [
    (r"model\.embed_tokens", "token_embd"),
    (r"model\.norm", "output_norm"),
    (r"lm_head", "output"),
    (r"model\.layers\.(\d+)\.", r"blk.\1."),
    (r"self_attn\.qkv_proj", "attn_qkv"),
    (r"self_attn\.([qkv])_proj", r"attn_\1"),
    (r"self_attn\.([qk])_norm", r"attn_\1_norm"),
    (r"self_attn\.o_proj", "attn_output"),
    (r"input_layernorm", "attn_norm"),
    (r"mlp\.gate_up_proj", "ffn_up"),
    (r"mlp\.(gate|up|down)_proj", r"ffn_\1"),
    (r"mlp\.gate\.", "ffn_gate_inp."),
    (r"pre_feedforward_layernorm", "ffn_norm"),
    (r"post_feedforward_layernorm", "post_ffw_norm"),
]


def _gguf_name(name: str, sandwich: bool) -> str:
    for pattern, word in _RENAMES:
        name = re.sub(pattern, word, name)
    return name.replace("post_attention_layernorm", "post_attention_norm" if sandwich else "ffn_norm")


def _permuted(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Lay the rows of each head so that rotated pairs stand side by side, as llama.cpp's converter does."""
    head_dim = matrix.shape[0] // heads
    return matrix.reshape(heads, 2, head_dim // 2, *matrix.shape[1:]).swapaxes(1, 2).reshape(matrix.shape)


def gguf_tensors(model: torch.nn.Module, arch: str) -> dict[str, np.ndarray]:
    """Return the model's weights as llama.cpp's converter would write them, float32."""
    config = model.config
    tensors: dict[str, np.ndarray] = {}
    experts: dict[str, list[np.ndarray]] = {}
    for key, value in model.state_dict().items():
        array = value.float().numpy()
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if ".experts." in key:
            experts[key] = array
            continue
        if arch in ("llama", "granite"):
            if re.search(r"q_proj\.(weight|bias)", key):
                array = _permuted(array, config.num_attention_heads)
            if re.search(r"k_proj\.(weight|bias)", key):
                array = _permuted(array, config.num_key_value_heads)
        if arch.startswith("gemma") and key.endswith("norm.weight"):
            array = array + 1
        tensors[_gguf_name(key, sandwich=arch in ("gemma2", "gemma3", "olmo2"))] = array
    for key, array in experts.items():
        block = re.search(r"layers\.(\d+)\.", key)[1]
        if key.endswith("gate_up_proj"):
            gate, up = np.split(array, 2, axis=1)
            tensors[f"blk.{block}.ffn_gate_exps.weight"] = gate
            tensors[f"blk.{block}.ffn_up_exps.weight"] = up
        else:
            tensors[f"blk.{block}.ffn_down_exps.weight"] = array
    rope = config.rope_parameters
    if rope.get("rope_type") == "llama3":
        tensors["rope_freqs.weight"] = _llama3_divisors(model)
    if rope.get("rope_type") == "longrope":
        tensors["rope_factors_long.weight"] = np.array(rope["long_factor"], dtype=np.float32)
        tensors["rope_factors_short.weight"] = np.array(rope["short_factor"], dtype=np.float32)
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def _llama3_divisors(model: torch.nn.Module) -> np.ndarray:
    """Return by what llama3's rule divides each plain frequency."""
    rotary = model.model.rotary_emb
    dim = 2 * len(rotary.inv_freq)
    plain = 1.0 / 10000.0 ** (torch.arange(0, dim, 2).float() / dim)
    return (plain / rotary.inv_freq).numpy()


def write_gguf(model: torch.nn.Module, arch: str, path: Path) -> Path:
    """Write the model as an F32 GGUF without a usable tokenizer."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name("tiny")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    _add_rope(writer, config, head_dim)
    if getattr(config, "sliding_window", None) and arch != "llama":
        writer.add_sliding_window(config.sliding_window)
        if arch == "olmo2":
            writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if arch == "qwen3moe":
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if arch == "granite":
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    add_tokenizer(writer, config.vocab_size)
    for name, array in gguf_tensors(model, arch).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_rope(writer: Any, config: Any, head_dim: int) -> None:
    import gguf

    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    kind = rope["rope_type"]
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    if kind == "longrope":
        original = rope["original_max_position_embeddings"]
        factor = config.max_position_embeddings / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(factor) / np.log(original))))


def add_tokenizer(writer: Any, vocab_size: int) -> None:
    """Add a byte-level vocabulary: three control tokens, then printable characters, one merge and filler."""
    tokens = ["<pad>", "<s>", "</s>"] + [chr(33 + i) for i in range(94)] + ["Ġ", "Ċ", "th"]
    tokens += [f"<extra{i}>" for i in range(vocab_size - len(tokens))]
    types = [3, 3, 3] + [1] * (vocab_size - 3)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens[:vocab_size])
    writer.add_token_types(types)
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
