"""How GGUF files name the tensors that Hugging Face's names ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping

_OUTSIDE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}

_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.experts.gate_proj": "ffn_gate_exps",
    "mlp.experts.up_proj": "ffn_up_exps",
    "mlp.experts.down_proj": "ffn_down_exps",
}

SANDWICH_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
"""Overrides for architectures that normalise after attention and feed-forward too (Gemma 2, 3, OLMo 2)."""

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")
_EXPERT = re.compile(r"mlp\.experts\.(\d+)\.(gate|up|down)_proj")


def gguf_name(name: str, overrides: Mapping[str, str]) -> str:
    """Translate one of Hugging Face's names; a name that GGUF has no word for comes back unchanged.

    overrides: an architecture's own words for parts of a layer, looked up first.
    """
    inside = _LAYER.fullmatch(name)
    if inside:
        index, part, kind = inside.groups()
        expert = _EXPERT.fullmatch(part)
        word = f"ffn_{expert[2]}.{expert[1]}" if expert else overrides.get(part) or _IN_LAYER.get(part)
        return f"blk.{index}.{word}.{kind}" if word else name
    part, _, kind = name.rpartition(".")
    return f"{_OUTSIDE[part]}.{kind}" if part in _OUTSIDE else name
