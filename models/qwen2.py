"""Qwen 1.5, 2 and 2.5: Llama with biases on queries, keys and values."""

from __future__ import annotations

from typing import Any

from .base import CausalLM, architecture
from .checkpoint.base import Checkpoint


@architecture(hf=("qwen2",), gguf=("qwen2",))
class Qwen2(CausalLM):
    """A window that the configuration carries is off unless it says `use_sliding_window`."""

    @classmethod
    def adapt(cls, config: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
        """Switch the window off where nothing switches it on: in GGUF, where no layers are named for it."""
        named = checkpoint.format == "gguf" and "layer_types" in config
        return {"use_sliding_window": named, **config}
