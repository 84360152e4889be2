"""The contents of the KV cache: pages of keys and values for every layer; who owns a page is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.dispatch import find


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """The shape of one token's keys and values."""

    num_layers: int
    num_kv_heads: int
    head_dim: int

    def token_bytes(self, dtype: torch.dtype) -> int:
        """Return the bytes that one token takes, keys and values of all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * dtype.itemsize


class KVCache:
    """Keys and values [slots, kv_heads, head_dim] per layer; slot = block id * block_size + offset.

    The memory is reserved at once but, on most systems, only taken as slots are first written.
    """

    def __init__(
        self, spec: CacheSpec, num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.block_size = block_size
        self.num_blocks = num_blocks
        self.device = device
        shape = (num_blocks * block_size, spec.num_kv_heads, spec.head_dim)
        self._keys = [torch.empty(shape, dtype=dtype, device=device) for _ in range(spec.num_layers)]
        self._values = [torch.empty(shape, dtype=dtype, device=device) for _ in range(spec.num_layers)]
        self._append = find("append", device=device.type)

    def append(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Write the keys and values [T, kv_heads, head_dim] of T tokens into `slots` [T]."""
        self._append(self._keys[layer], slots, k)
        self._append(self._values[layer], slots, v)

    def read(self, layer: int, where: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [context, kv_heads, head_dim]; a slice is a view, a tensor of slots a copy."""
        return self._keys[layer][where], self._values[layer][where]

    def locate(self, blocks: Sequence[int], context: int) -> slice | Tensor:
        """Return where the first `context` tokens of a sequence lie: a slice if its blocks follow one another."""
        size = self.block_size
        needed = blocks[: -(-context // size)]
        if all(b == needed[0] + i for i, b in enumerate(needed)):
            return slice(needed[0] * size, needed[0] * size + context)
        starts = torch.tensor(needed, device=self.device)[:, None] * size
        return (starts + torch.arange(size, device=self.device)).flatten()[:context]
