"""Qwen 3: Qwen 2 with normalised queries and keys and no biases."""

from __future__ import annotations

from .base import architecture
from .qwen2 import Qwen2


@architecture(hf=("qwen3",), gguf=("qwen3",))
class Qwen3(Qwen2):
    """The norms show by their tensors."""
