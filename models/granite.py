"""Granite 3: Llama with constant multipliers on embeddings, attention, residuals and logits."""

from __future__ import annotations

from .base import architecture
from .llama import Llama


@architecture(hf=("granite",), gguf=("granite",))
class Granite(Llama):
    """The multipliers come from the configuration; GGUF rows are permuted as Llama's."""
