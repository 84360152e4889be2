"""Qwen 3 with a sparse mixture of experts; single layers may be dense."""

from __future__ import annotations

from typing import Any

from .base import architecture
from .checkpoint.base import Checkpoint
from .qwen3 import Qwen3


@architecture(hf=("qwen3_moe",), gguf=("qwen3moe",))
class Qwen3Moe(Qwen3):
    """config.json leaves the experts' shares as they are unless it says `norm_topk_prob`; GGUF implies it."""

    @classmethod
    def adapt(cls, config: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
        """State whether the chosen experts' shares are made to sum to 1."""
        return {"norm_topk_prob": checkpoint.format == "gguf", **super().adapt(config, checkpoint)}
