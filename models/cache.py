"""The contents of the KV cache: pages of keys and values for every layer; who owns a page is not known here."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import NotSupported
from ..kernels.cpu.native import SLOTS, Isa, Memory, cache_bytes
from ..kernels.cpu.program import CacheTable
from ..kernels.dispatch import find
from ..quant.dtype import dtype
from ..quant.formats.floats import TORCH_DTYPES


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """The shape of one token's keys and values."""

    num_layers: int
    num_kv_heads: int
    head_dim: int

    def token_bytes(self, types: CacheTypes) -> int:
        """Return the bytes that one token takes, keys and values of all layers."""
        bits = dtype(types.keys).bits + dtype(types.values).bits
        return math.ceil(self.num_layers * self.num_kv_heads * self.head_dim * bits / 8)


@dataclass(frozen=True, slots=True)
class CacheTypes:
    """What keys and values are stored in, by name."""

    keys: str
    values: str


class KVCache:
    """Keys and values [slots, kv_heads, head_dim] per layer; slot = block id * block_size + offset.

    The memory is reserved at once but, on most systems, only taken as slots are first written.
    """

    def __init__(
        self, spec: CacheSpec, num_blocks: int, block_size: int, types: CacheTypes, device: torch.device
    ) -> None:
        self.block_size = block_size
        self.num_blocks = num_blocks
        self.device = device
        shape = (num_blocks * block_size, spec.num_kv_heads, spec.head_dim)
        keys, values = TORCH_DTYPES[types.keys], TORCH_DTYPES[types.values]
        self._keys = [torch.empty(shape, dtype=keys, device=device) for _ in range(spec.num_layers)]
        self._values = [torch.empty(shape, dtype=values, device=device) for _ in range(spec.num_layers)]
        self._append = find("append", device=device.type)

    def append(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Write the keys and values [T, kv_heads, head_dim] of T tokens into `slots` [T]."""
        self._append(self._keys[layer], slots, k)
        self._append(self._values[layer], slots, v)

    def read(self, layer: int, where: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [context, kv_heads, head_dim]; a slice is a view, a tensor of slots a copy."""
        return self._keys[layer][where], self._values[layer][where]

    @property
    def block_bytes(self) -> int:
        """Return the bytes of one block, all layers' keys and values."""
        return sum(part[: self.block_size].nbytes for part in (*self._keys, *self._values))

    def get_block(self, block: int) -> bytes:
        """Return a copy of one block's bytes."""
        return b"".join(
            part[self._slots(block)].contiguous().view(torch.uint8).cpu().numpy().tobytes()
            for part in (*self._keys, *self._values)
        )

    def set_block(self, block: int, data: bytes) -> None:
        """Fill one block with the bytes that `get_block` gave."""
        start = 0
        for part in (*self._keys, *self._values):
            place = part[self._slots(block)]
            given = torch.frombuffer(bytearray(data[start : start + place.nbytes]), dtype=part.dtype)
            place.copy_(given.view(place.shape))
            start += place.nbytes

    def _slots(self, block: int) -> slice:
        return slice(block * self.block_size, (block + 1) * self.block_size)

    def locate(self, blocks: Sequence[int], context: int) -> slice | Tensor:
        """Return where the first `context` tokens of a sequence lie: a slice if its blocks follow one another."""
        size = self.block_size
        needed = blocks[: -(-context // size)]
        if all(b == needed[0] + i for i, b in enumerate(needed)):
            return slice(needed[0] * size, needed[0] * size + context)
        starts = torch.tensor(needed, device=self.device)[:, None] * size
        return (starts + torch.arange(size, device=self.device)).flatten()[:context]


class NativeCache:
    """The cache of native programs: blocks of SLOTS tokens, with all layers' keys and values (kernels/cpu/cache.h).

    The memory is reserved at once but only taken as blocks are first written.
    """

    block_size = SLOTS

    def __init__(self, spec: CacheSpec, num_blocks: int, types: CacheTypes, isa: Isa) -> None:
        """Reserve the memory; raises OutOfMemory, and NotSupported for types that the heads cannot be stored in."""
        self.num_blocks = num_blocks
        self._memory = Memory()
        names = (types.keys, types.values)
        sizes = [self._layer_bytes(spec, name, isa) for name in names]
        self.block_bytes = stride = spec.num_layers * sum(sizes)
        self._first = first = self._memory.take(num_blocks * stride)
        keys = [first + layer * sum(sizes) for layer in range(spec.num_layers)]
        self.table = CacheTable(names, stride, keys, [place + sizes[0] for place in keys])

    def get_block(self, block: int) -> bytes:
        """Return a copy of one block's bytes."""
        return ctypes.string_at(self._first + block * self.block_bytes, self.block_bytes)

    def set_block(self, block: int, data: bytes) -> None:
        """Fill one block with the bytes that `get_block` gave."""
        assert len(data) == self.block_bytes, "a block of another size"
        ctypes.memmove(self._first + block * self.block_bytes, data, self.block_bytes)

    @staticmethod
    def _layer_bytes(spec: CacheSpec, name: str, isa: Isa) -> int:
        size = cache_bytes(isa, name, spec.head_dim)
        if size is None:
            raise NotSupported(f"heads of {spec.head_dim} entries cannot be cached as {name}", hint="use f16")
        return spec.num_kv_heads * size


Cache = KVCache | NativeCache
