"""Llama 2 and 3, and every model of their shape: the plain architecture that all others differ from."""

from __future__ import annotations

from typing import Any

from .base import CausalLM, architecture
from .checkpoint.base import Checkpoint


@architecture(hf=("llama",), gguf=("llama",))
class Llama(CausalLM):
    """Llama's GGUF converter permutes the rows of q and k so that rotated pairs stand side by side.

    Mistral and Mixtral are converted under the same name; experts show by their count.
    """

    @classmethod
    def adapt(cls, config: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
        """Turn neighbouring pairs for GGUF files."""
        return {**config, "rope_interleaved": checkpoint.format == "gguf"}
