"""What a tensor does in its model, by the name that GGUF files give it; and which are matrices to quantize."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Role(Enum):
    """What a matrix does in the model."""

    HEAD = "head"  # logits; the embedding too, where both share one matrix
    EMBEDDING = "embedding"
    QKV = "qkv"
    KV_B = "kv_b"
    V = "v"
    K = "k"
    Q = "q"
    OUT = "out"
    UP = "up"
    GATE = "gate"
    DOWN = "down"
    OTHER = "other"


# The first part that a name contains says what the matrix does.
_ROLES: tuple[tuple[str, Role], ...] = (
    ("attn_qkv.weight", Role.QKV),
    ("attn_kv_b.weight", Role.KV_B),
    ("attn_v.weight", Role.V),
    ("attn_k.weight", Role.K),
    ("attn_q.weight", Role.Q),
    ("attn_output.weight", Role.OUT),
    ("ffn_up", Role.UP),
    ("ffn_gate", Role.GATE),
    ("ffn_down", Role.DOWN),
)
_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
_HEAD = "output.weight"

# Values are the most sensitive to rounding, alone or stacked with others.
VALUES = (Role.V, Role.QKV, Role.KV_B)

# Matrices whose names contain one of these stay as they are: small, or not multiplied as matrices are.
_KEPT = (
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj",
    "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight",
    "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight",
    "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight",
    "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight",
    "time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight",
    "attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd",
    ".patch_merger", "a.rvq.codebook", "mm.a.code_embd",
)  # fmt: skip
_KEPT_NAMES = ("position_embd.weight", "token_types.weight")
_KEPT_IN_GLM5 = (
    "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate",
    "indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight", "ssm_g_b.weight",
    "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight",
)  # fmt: skip


def may_quantize(name: str, shape: Sequence[int], architecture: str) -> bool:
    """Tell whether a tensor is a matrix that loses little by rounding; norms, biases, routers and others are not."""
    inner = list(shape)
    while len(inner) > 1 and inner[0] == 1:
        inner.pop(0)  # a dimension of one at the outside is none
    if len(inner) < 2 or not name.endswith("weight") or name in _KEPT_NAMES:
        return False
    kept = _KEPT + (_KEPT_IN_GLM5 if architecture == "glm5-next" else ())
    return not any(part in name for part in kept)


def role_of(name: str, *, tied: bool) -> Role:
    """Return what a matrix does; tied: the model has no head of its own."""
    if name == _HEAD:
        return Role.HEAD
    if name in _EMBEDDINGS:
        return Role.HEAD if tied else Role.EMBEDDING
    return next((role for part, role in _ROLES if part in name), Role.OTHER)


def is_embedding(name: str) -> bool:
    """Tell whether a tensor turns tokens into vectors."""
    return name in _EMBEDDINGS


def is_head(name: str) -> bool:
    """Tell whether a tensor is a head of its own."""
    return name == _HEAD


def in_order(names: Sequence[str]) -> list[str]:
    """Sort tensors as llama.cpp does: outside of layers first, then by layer; rules count in this order."""

    def key(name: str) -> tuple[int, bytes]:
        layer = layer_of(name)
        return (-1 if layer is None else layer, name.encode())

    return sorted(names, key=key)


def layer_of(name: str) -> int | None:
    """Return the layer that a tensor belongs to, or None."""
    first, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    return int(number) if first == "blk" and number.isdecimal() else None
