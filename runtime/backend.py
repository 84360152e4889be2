"""What computes a model on this machine: device, types, kernels and memory, chosen once before it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from ..errors import InvalidRequest, NotSupported
from ..kernels.cpu import native
from ..kernels.device import (
    available_memory,
    choose_device,
    choose_dtype,
    choose_threads,
    maps_files,
    set_threads,
)
from ..models.base import CausalLM
from ..models.cache import Cache, CacheTypes, KVCache, NativeCache
from ..models.checkpoint.base import Checkpoint
from ..models.load import Placement, load_model, model_config
from ..models.quantize_on_load import quantizing
from ..quant.linear import lent_types, packed_types
from ..quant.load_types import BITSANDBYTES
from .load_options import LoadOptions
from .memory import MemoryPlan, plan_memory

BLOCK_SIZE = native.SLOTS
CACHE_TYPES = ("auto", *native.CACHE_TYPES)


class Backend:
    """The choices for one checkpoint, and what is made by them: the model and its caches.

    isa: the native kernels' instruction set; None where torch computes.
    """

    def __init__(self, checkpoint: Checkpoint, options: LoadOptions, *, spare: int = 0) -> None:
        """Choose; raises what does not fit this machine or this checkpoint.

        spare: bytes that will be free besides, or below 0 that are free and promised to others.
        """
        self._spare = spare
        if options.quantize is not None:
            checkpoint = quantizing(checkpoint, options.quantize)
        self.checkpoint = checkpoint
        self.config = model_config(checkpoint)
        self.device = choose_device(options.device)
        self._asked = (_cache_type(options.cache_type_k, "k"), _cache_type(options.cache_type_v, "v"))
        self._stored = next(iter(checkpoint.dtype_counts()), "f32")
        self.dtype = choose_dtype(options.dtype, self._stored, self.device)
        isa = native.choose(options.cpu)
        self.isa = isa if self.device.type == "cpu" and options.dtype == "auto" else None
        self.plan = self._plan(options.num_ctx)
        if not self.plan.hold and self.isa is not None:
            self.isa = None
            self.plan = self._plan(options.num_ctx)
        self.threads = choose_threads(options.threads)

    def load(self, progress: Callable[[int], None] | None) -> CausalLM:
        """Load the model; progress is called with the bytes of each tensor."""
        set_threads(self.threads)
        placement = Placement(self.device, self.dtype, self.plan.hold, self.isa)
        model = load_model(self.checkpoint, placement, self.plan.context_length, progress)
        if model.program is None:
            self.isa = None
        else:
            # What is left to torch is small; threads of its own would take the cores from the kernels'.
            torch.set_num_threads(1)
        return model

    def new_cache(self, model: CausalLM, num_tokens: int) -> Cache:
        """Return an empty cache for `num_tokens`; raises NotSupported for types that it cannot have."""
        blocks = -(-num_tokens // BLOCK_SIZE)
        types = self.cache_types
        if self.isa is not None:
            return NativeCache(model.cache_spec(), blocks, types, self.isa)
        if types.keys != types.values or types.keys not in ("f32", "f16", "bf16"):
            raise NotSupported(
                f"a cache of {types.keys} keys and {types.values} values needs the native CPU kernels",
                field="cache_type_k",
                hint="--cache-type-k f16 --cache-type-v f16",
            )
        return KVCache(model.cache_spec(), blocks, BLOCK_SIZE, types, self.device)

    @property
    def cache_types(self) -> CacheTypes:
        """What keys and values are stored in: as asked; else float32 for float32 files, and 16 bits for others."""
        compute = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}[self.dtype]
        usual = "f16" if self.isa is not None and compute != "f32" else compute
        keys, values = (usual if asked == "auto" else asked for asked in self._asked)
        return CacheTypes(keys, values)

    @property
    def description(self) -> str:
        """The device, what multiplies, and the cache's types."""
        types = self.cache_types
        cache = types.keys if types.keys == types.values else f"{types.keys}/{types.values}"
        if self.isa is not None:
            return f"cpu ({self.isa.name} kernels, {cache} cache)"
        missing = f", no native kernels: {native.why_not()}" if not native.instruction_sets() else ""
        return f"{self.device.type} {str(self.dtype).removeprefix('torch.')} (torch, {cache} cache{missing})"

    @property
    def notes(self) -> list[str]:
        """Say where weights are not kept in the bits that they were loaded in."""
        kept = self.kept_types()
        unpacked = [
            name for name in self.checkpoint.dtype_counts() if name in BITSANDBYTES and name not in kept
        ]
        if not unpacked or not self.plan.hold:
            return []
        return [
            f"there is no kernel for {' and '.join(unpacked)} on {self.device.type} in this type, neither ours nor "
            f"bitsandbytes'; the weights are unpacked to {str(self.dtype).removeprefix('torch.')}"
        ]

    def kept_types(self) -> Mapping[str, float]:
        """Return the types that stay in their own bits, and the bytes of a weight."""
        if self.isa is not None:
            return packed_types(self.isa)
        return lent_types(self.checkpoint.dtype_counts(), self.device, self.dtype)

    def _plan(self, num_ctx: int | None) -> MemoryPlan:
        return plan_memory(
            self.checkpoint,
            self.config,
            self.dtype,
            max(0, available_memory(self.device) + self._spare),
            num_ctx,
            cache=self.cache_types,
            mapped=maps_files(self.device),
            packed=self.kept_types(),
        )


def _cache_type(name: str, which: str) -> str:
    if name not in CACHE_TYPES:
        known = ", ".join(CACHE_TYPES)
        raise InvalidRequest(
            f"unknown cache type '{name}'", field=f"cache_type_{which}", hint=f"one of {known}"
        )
    return name
