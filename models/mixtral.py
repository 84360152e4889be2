"""Mixtral: Mistral with a sparse mixture of experts, whose parts have names of their own."""

from __future__ import annotations

from .base import CausalLM, architecture


@architecture(hf=("mixtral",), written_as="llama")
class Mixtral(CausalLM):
    """w1, w2 and w3 are gate, down and up."""

    hf_names = {
        ".mlp.": ".block_sparse_moe.",
        ".gate_proj.": ".w1.",
        ".down_proj.": ".w2.",
        ".up_proj.": ".w3.",
    }
