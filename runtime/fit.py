"""What a model takes and how fast it replies, worked out from its headers and the machine's figures alone.

at the peak   process + tokenizer + weights + pages of the file + buffers + keys and values of the context
what fits     as `plan_memory` decides when the model is loaded
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from ..errors import MissingTensor, NotSupported
from ..kernels.cpu import native
from ..kernels.device import maps_files
from ..models.base import MAX_STEP
from ..models.cache import CacheSpec, CacheTypes
from ..models.checkpoint.base import Checkpoint
from ..models.load import find_architecture
from .backend import BLOCK_SIZE, Backend
from .load_options import LoadOptions
from .machine import Machine
from .memory import CONTEXT_SHARE, MIN_CONTEXT, RESERVE, weigh
from .runner import KEPT_ROWS

USUAL_CACHES = ("f16", "q8_0", "q4_0")
_BEYOND = 1 << 60  # bytes, more than any machine has

# Measured on vocabularies of 32,000 to 256,000 tokens: what a tokenizer keeps.
_TOKENIZER, _PER_TOKEN = 10 << 20, 550
# What is imported with the first request, thread stacks, and what the allocators keep for themselves.
_BESIDE = 28 << 20
# With a row of the embedding the system brings in its neighbours.
_PAGES = MAX_STEP * (64 << 10)


@dataclass(frozen=True, slots=True)
class Weights:
    """What weights take: `held`, by type, in memory; `mapped` as pages of their file; `active` are read per token."""

    held: Mapping[str, int]
    mapped: int
    active: int

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(self.held.values())


@dataclass(frozen=True, slots=True)
class Size:
    """A context: its keys and values, the process's peak with it, whether that fits now and if nothing else ran."""

    context: int
    cache_bytes: int
    peak_bytes: int
    fits_now: bool
    fits: bool


@dataclass(frozen=True, slots=True)
class CacheFit:
    """What contexts take with one type of cache; `largest` fit now and if nothing else ran, 0 if none does."""

    types: CacheTypes
    token_bytes: int
    asked: Size
    own: Size
    largest_now: int
    largest: int


@dataclass(frozen=True, slots=True)
class Fit:
    """How a model fits a machine; bytes everywhere.

    hold_now, hold: whether the weights stay in memory ready for use, now and if nothing else ran; context: the one
    asked for, else the one that a run would take; caches: the one that a run would take first.
    tokens_per_second: at the beginning of a context and at its end, None where it is not known.
    """

    backend: str
    context: int
    own_context: int
    weights: Weights
    buffers: int
    tokenizer: int
    process: int
    hold_now: bool
    hold: bool
    caches: tuple[CacheFit, ...]
    tokens_per_second: tuple[float, float] | None

    @property
    def fits(self) -> bool:
        """Whether the context fits if nothing else runs, with weights that need not be unpacked at each use."""
        return self.hold and self.caches[0].asked.fits


def estimate(checkpoint: Checkpoint, options: LoadOptions, machine: Machine) -> Fit:
    """Work out how a model fits; raises what would keep it from being loaded on any machine of this kind."""
    return _Estimate(checkpoint, options, machine).fit()


class _Estimate:
    """One model on one machine."""

    def __init__(self, checkpoint: Checkpoint, options: LoadOptions, machine: Machine) -> None:
        if not checkpoint.names():
            raise MissingTensor(
                f"{checkpoint.path.name} holds only a vocabulary, no weights", hint="llm tokenize can use it"
            )
        self.options, self.machine = options, machine
        # With memory without end, so that nothing but the model and the machine's kind decides.
        self.backend = Backend(checkpoint, options, spare=_BEYOND)
        self.checkpoint = self.backend.checkpoint
        self.config = self.backend.config
        packed = self.backend.kept_types()
        self.mapped = maps_files(self.backend.device)
        self.hold_now, self.hold = (
            weigh(self.checkpoint, self.backend.dtype, free, mapped=self.mapped, packed=packed)[0]
            for free in (machine.free, machine.total - machine.process)
        )
        if not self.hold:
            # As a run would: nothing is packed, and torch unpacks at each use.
            self.backend.isa = None
        self.rates = packed if self.hold else {}
        self.weights = self._weights()
        self.buffers = self._buffers()
        self.tokenizer = _TOKENIZER + _PER_TOKEN * self.config.vocab_size

    def fit(self) -> Fit:
        """Put the figures together."""
        caches = self._cache_types()
        context = self.options.num_ctx or self._usual_context(caches[0])
        found = tuple(self._cache(types, context) for types in caches)
        return Fit(
            backend=self.backend.description,
            context=context,
            own_context=self.config.max_positions,
            weights=self.weights,
            buffers=self.buffers,
            tokenizer=self.tokenizer,
            process=self.machine.process + _BESIDE,
            hold_now=self.hold_now,
            hold=self.hold,
            caches=found,
            tokens_per_second=self._speed(found[0].token_bytes, context),
        )

    def _weights(self) -> Weights:
        """Return what each type takes as it is held; the table of an embedding stays in the file."""
        model, dtype = find_architecture(self.checkpoint), self.backend.dtype
        spell = model.translate(self.checkpoint)
        table, tied = spell("model.embed_tokens.weight"), not self.checkpoint.has(spell("lm_head.weight"))
        packs = self.backend.isa is not None
        held: dict[str, int] = {}
        active = 0.0
        for info in self.checkpoint.infos.values():
            read = info.num_weights * self.rates.get(info.dtype, dtype.itemsize)
            multiplied = info.name != table or tied
            if multiplied:
                active += read * self._share(info.name)
            # Torch shares the file's memory where it is of the type to compute in.
            in_place = not packs and (torch_name(dtype) == info.dtype or not self.hold)
            if not self.mapped or (multiplied and not in_place):
                held[info.dtype] = held.get(info.dtype, 0) + int(read if self.hold else info.nbytes)
        if packs:
            return Weights(held, min(self.checkpoint.info(table).nbytes, _PAGES), int(active))
        return Weights(held, self.checkpoint.nbytes if self.mapped else 0, int(active))

    def _share(self, name: str) -> float:
        """Return how much of a matrix a token reads: of experts those that are chosen."""
        config = self.config
        expert = config.num_experts and ("_exps." in name or ".experts." in name)
        return config.num_experts_per_token / config.num_experts if expert else 1.0

    def _buffers(self) -> int:
        """Return what a step of MAX_STEP tokens works in (CausalLM._record, op_experts.cpp), and its logits."""
        config = self.config
        heads = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        angles = config.rope.dim * (2 if config.local_rope is not None else 1)
        gates = 2 * config.intermediate_size
        if config.num_experts:
            rows = config.num_experts_per_token
            inner = config.expert_size or config.intermediate_size
            gates = config.num_experts + rows * (
                2 * inner + config.hidden_size + (inner + config.hidden_size) // 3
            )
        else:
            spell = find_architecture(self.checkpoint).translate(self.checkpoint)
            if not self.checkpoint.has(spell("model.layers.0.mlp.gate_proj.weight")):
                gates += config.intermediate_size
        widest = max(config.hidden_size, config.num_heads * config.head_dim, config.intermediate_size)
        widths = 2 * config.hidden_size + heads + angles + gates + widest // 3
        step = MAX_STEP * 4 * widths
        if self.backend.isa is None:
            largest = max((info.num_weights for info in self.checkpoint.infos.values()), default=0)
            step = 2 * step + (0 if self.hold else largest * self.backend.dtype.itemsize)
        return step + KEPT_ROWS * 4 * config.vocab_size

    def _cache_types(self) -> list[CacheTypes]:
        """Return what a run would cache in, then what else it can be told to."""
        others = USUAL_CACHES if self.backend.isa is not None else ("f32", "bf16", "f16")
        own = self.backend.cache_types
        kinds = [own, *(CacheTypes(name, name) for name in others)]
        return [kind for kind in dict.fromkeys(kinds) if self._token_bytes(kind) is not None]

    def _token_bytes(self, types: CacheTypes) -> int | None:
        """Return what a token's keys and values take; None for types that its heads cannot have here."""
        config, isa = self.config, self.backend.isa
        spec = CacheSpec(config.num_layers, config.num_kv_heads, config.head_dim)
        if isa is None:
            return spec.token_bytes(types) if types.keys == types.values else None
        sizes = [native.cache_bytes(isa, name, config.head_dim) for name in (types.keys, types.values)]
        if None in sizes:
            return None
        return spec.num_layers * spec.num_kv_heads * sum(size or 0 for size in sizes) // BLOCK_SIZE

    def _cache(self, types: CacheTypes, context: int) -> CacheFit:
        token_bytes = self._token_bytes(types)
        if token_bytes is None:
            raise NotSupported(f"heads of {self.config.head_dim} entries cannot be cached so", hint="use f16")
        own = self.config.max_positions
        now, ever = (self._largest(room, token_bytes) for room in self._rooms())
        return CacheFit(
            types, token_bytes, self._size(context, token_bytes), self._size(own, token_bytes), now, ever
        )

    def _size(self, context: int, token_bytes: int) -> Size:
        cache_bytes = -(-context // BLOCK_SIZE) * BLOCK_SIZE * token_bytes
        beside = self.machine.process + _BESIDE + self.tokenizer + self.buffers
        peak = beside + self.weights.nbytes + self.weights.mapped + cache_bytes
        now, ever = (context * token_bytes <= room for room in self._rooms())
        return Size(context, cache_bytes, peak, now, ever)

    def _rooms(self) -> tuple[int, int]:
        """Return the bytes for keys and values, now and if nothing else ran; the first never exceeds the second."""
        beside = max(RESERVE, self.tokenizer + self.buffers + _BESIDE)
        rooms = []
        for free in (self.machine.free, self.machine.total - self.machine.process):
            dtype = self.backend.dtype
            taken = weigh(self.checkpoint, dtype, free, mapped=self.mapped, packed=self.rates)[2]
            rooms.append(max(0, free - beside - taken))
        return min(rooms), rooms[1]

    def _largest(self, room: int, token_bytes: int) -> int:
        most = room // token_bytes
        if most >= self.config.max_positions:
            return self.config.max_positions
        return most // 256 * 256 if most >= MIN_CONTEXT else 0

    def _usual_context(self, types: CacheTypes) -> int:
        """Return the context that a run takes when nobody asks for one (plan_memory)."""
        own, token_bytes = self.config.max_positions, self._token_bytes(types) or 1
        most = int(self._rooms()[0] * CONTEXT_SHARE) // token_bytes
        return own if own <= most else min(own, max(MIN_CONTEXT, most // 256 * 256))

    def _speed(self, token_bytes: int, context: int) -> tuple[float, float] | None:
        """Return tokens per second: bandwidth over what a token reads; None where weights are unpacked first."""
        if self.machine.bandwidth is None or not self.hold:
            return None
        per_layer = token_bytes / self.config.num_layers
        window = self.config.sliding_window or context
        read = sum(
            per_layer * (min(window, context) if slides else context) for slides in self.config.sliding_layers
        )
        active = self.weights.active
        return self.machine.bandwidth / active, self.machine.bandwidth / (active + read)


def torch_name(dtype: torch.dtype) -> str:
    """Return our name of a torch type."""
    return {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}[dtype]


def with_context(options: LoadOptions, said: object) -> LoadOptions:
    """Fill in the context that a Modelfile sets, where the user asked for none."""
    if options.num_ctx is not None or not isinstance(said, int) or said < 1:
        return options
    return replace(options, num_ctx=said)
