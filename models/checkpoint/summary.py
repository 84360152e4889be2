"""What a model file's headers say in a few words: its type, its size, its context."""

from __future__ import annotations

import math

from .base import Checkpoint

# The numbers of `general.file_type`, from llama.cpp's llama.h; gaps are types that were withdrawn.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}  # fmt: skip
_GUESSED = 1024


def quantization(checkpoint: Checkpoint) -> str:
    """Name the type of most weights as people write it: `Q4_K_M`, `BF16`; empty without tensors."""
    kind = checkpoint.metadata.get("general.file_type")
    if isinstance(kind, int) and kind & ~_GUESSED in _FILE_TYPES:
        return _FILE_TYPES[kind & ~_GUESSED]
    return next((name.upper() for name in checkpoint.dtype_counts()), "")


def bits_per_weight(checkpoint: Checkpoint) -> float | None:
    """Return the bits that the tensors take per weight; None without tensors."""
    count = checkpoint.num_parameters
    return checkpoint.nbytes * 8 / count if count else None


def context_length(checkpoint: Checkpoint) -> int | None:
    """Return the context that the model was made for, if its files say."""
    return _size(checkpoint, "max_position_embeddings")


def embedding_length(checkpoint: Checkpoint) -> int | None:
    """Return the size of the hidden state, if the files say."""
    return _size(checkpoint, "hidden_size")


def human_number(count: int) -> str:
    """Write a number of weights: `8B`, `8.2B`, `596.05M`, `12K`."""
    for unit, suffix, digits in ((10**9, "B", 1), (10**6, "M", 2)):
        if count >= unit:
            value = count / unit
            return f"{value:.0f}{suffix}" if value == math.floor(value) else f"{value:.{digits}f}{suffix}"
    return f"{count / 1000:.0f}K" if count >= 1000 else str(count)


def _size(checkpoint: Checkpoint, key: str) -> int | None:
    value = checkpoint.config.get(key)
    if value is None:
        text = checkpoint.config.get("text_config")
        value = text.get(key) if isinstance(text, dict) else None
    return value if isinstance(value, int) and value > 0 else None
