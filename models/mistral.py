"""Mistral 7B and its kin: Llama with a sliding window; as GGUF they read as `llama` and carry no window."""

from __future__ import annotations

from .base import CausalLM, architecture


@architecture(hf=("mistral",), written_as="llama")
class Mistral(CausalLM):
    """The window comes from the configuration."""
