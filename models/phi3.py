"""Phi 3, 3.5 and 4: Llama with fused projections and, for long contexts, LongRoPE."""

from __future__ import annotations

from typing import Any

import torch

from .base import CausalLM, architecture
from .checkpoint.base import Checkpoint
from .config import section


@architecture(hf=("phi3",), gguf=("phi3",))
class Phi3(CausalLM):
    """GGUF keeps LongRoPE's two sets of divisors as tensors."""

    gguf_names = {"mlp.gate_up_proj": "ffn_up"}
    # llama.cpp once refused files without it
    gguf_keys = {"attention.sliding_window": 0}
    harmless = (*CausalLM.harmless, "rope_factors_long.weight", "rope_factors_short.weight")

    @classmethod
    def adapt(cls, config: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
        """Read the divisors from GGUF's tensors into the configuration."""
        if not checkpoint.has("rope_factors_long.weight"):
            return config

        def divisors(length: str) -> list[float]:
            values: list[float] = (
                checkpoint.load(f"rope_factors_{length}.weight").dequantize(torch.float32).tolist()
            )
            return values

        scaling = {**section(config, "rope_parameters"), "rope_type": "longrope"}
        scaling |= {"long_factor": divisors("long"), "short_factor": divisors("short")}
        return {**config, "rope_parameters": scaling}
