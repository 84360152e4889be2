"""What a model and its context will take, worked out before any of it is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from ..errors import InvalidRequest, OutOfMemory
from ..models.cache import CacheSpec, CacheTypes
from ..models.checkpoint.base import Checkpoint
from ..models.config import ModelConfig

# Of what is free: how much weights may take, how much of the rest a context that nobody asked for may take, and
# what one step's activations and the libraries need beside them.
WEIGHTS_SHARE = 0.8
CONTEXT_SHARE = 0.5
RESERVE = 300 << 20
MIN_CONTEXT = 512


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a model will be loaded.

    hold: matrices are kept packed or dequantized; else they are dequantized at each use, slower and smaller.
    weight_bytes, cache_bytes: what the weights and the KV cache of context_length tokens will occupy.
    limited_by: why the context is shorter than the model's own, if it is.
    """

    hold: bool
    context_length: int
    weight_bytes: int
    cache_bytes: int
    limited_by: str | None = None


def plan_memory(
    checkpoint: Checkpoint,
    config: ModelConfig,
    dtype: torch.dtype,
    free: int,
    num_ctx: int | None = None,
    *,
    cache: CacheTypes,
    mapped: bool = True,
    packed: Mapping[str, float] = MappingProxyType({}),
) -> MemoryPlan:
    """Decide how to hold the weights and how long the context may be, given `free` bytes.

    mapped: weights that stay as stored are pages of the file, which the system can take back at any time.
    packed: types that native kernels multiply with in their own bits, and the bytes of a packed weight.
    Raises InvalidRequest for a context beyond the model's own, OutOfMemory for one beyond `free`.
    """
    per_token = CacheSpec(config.num_layers, config.num_kv_heads, config.head_dim).token_bytes(cache)
    hold, weight_bytes, taken = weigh(checkpoint, dtype, free, mapped=mapped, packed=packed)
    left = max(0, free - RESERVE - taken)
    own = config.max_positions
    if num_ctx is None:
        fits = int(left * CONTEXT_SHARE) // per_token
        context = own if own <= fits else max(MIN_CONTEXT, fits // 256 * 256)
        context = min(context, own)
    else:
        if num_ctx < 1:
            raise InvalidRequest(f"the context must be at least 1 token, not {num_ctx}", field="num_ctx")
        if num_ctx > own and config.rope.kind != "dynamic":
            raise InvalidRequest(
                f"a context of {num_ctx} tokens was asked for, and the model's is {own}",
                field="num_ctx",
                hint=f"ask for at most {own}",
            )
        context = num_ctx
    if context * per_token > left:
        most = left // per_token // 256 * 256
        raise OutOfMemory(
            f"a context of {context} tokens needs {_gigabytes(context * per_token)} and "
            f"{_gigabytes(left)} are free beside the weights",
            hint=f"--num-ctx {most} fits"
            if most >= MIN_CONTEXT
            else "free some memory or choose a smaller model",
        )
    return MemoryPlan(
        hold=hold,
        context_length=context,
        weight_bytes=weight_bytes,
        cache_bytes=context * per_token,
        limited_by="memory" if num_ctx is None and context < own else None,
    )


def weigh(
    checkpoint: Checkpoint, dtype: torch.dtype, free: int, *, mapped: bool, packed: Mapping[str, float]
) -> tuple[bool, int, int]:
    """Return whether the weights are held, the bytes that they occupy then, and those that are taken of `free`."""
    counts = checkpoint.dtype_counts()
    held = int(sum(count * packed.get(name, dtype.itemsize) for name, count in counts.items()))
    hold = held <= free * WEIGHTS_SHARE
    weight_bytes = held if hold else checkpoint.nbytes
    return hold, weight_bytes, held if hold and mapped else 0 if mapped else weight_bytes


def weights_room(config: ModelConfig, memory: int, num_ctx: int, cache: CacheTypes) -> int:
    """Return the bytes that weights may take so that `plan_memory` holds them in so much free memory.

    num_ctx: the context that must fit beside them.
    """
    per_token = CacheSpec(config.num_layers, config.num_kv_heads, config.head_dim).token_bytes(cache)
    return max(0, min(int(memory * WEIGHTS_SHARE), memory - RESERVE - num_ctx * per_token))


def plan_scores(config: ModelConfig, rows: int, context: int, free: int) -> int:
    """Return the bytes of all scores of `rows` tokens, as plain attention keeps them; raises OutOfMemory."""
    nbytes = 4 * config.num_heads * rows * context
    left = max(0, free - RESERVE)
    if nbytes > left:
        raise OutOfMemory(
            f"plain attention over {context} tokens needs {_gigabytes(nbytes)} for its scores, and "
            f"{_gigabytes(left)} are free",
            hint="a shorter prompt, or --flash on",
        )
    return nbytes


def _gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB"
