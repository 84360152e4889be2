"""The native kernels as Python sees them: instruction sets, memory in huge pages, packed matrices."""

from __future__ import annotations

import itertools
import weakref
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ...errors import CorruptFile, InvalidRequest, NotSupported, OutOfMemory
from ..dispatch import kernel

try:
    from . import _native
except ImportError:  # it was installed without a C++ compiler
    _native = None  # type: ignore[assignment]

# Types that have kernels, by GGUF's numbers; those of bitsandbytes have none there.
TYPES: Final[Mapping[str, int]] = MappingProxyType({
    "f32": 0, "f16": 1, "bf16": 30, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_k": 10, "q3_k": 11,
    "q4_k": 12, "q5_k": 13, "q6_k": 14, "iq2_xs": 17, "iq4_nl": 20, "iq3_s": 21, "iq4_xs": 23, "mxfp4": 39,
    "nf4": 200, "fp4": 201,
})  # fmt: skip
# Types that rows can be encoded as, by GGUF's numbers.
ENCODED: Final[Mapping[str, int]] = MappingProxyType({
    "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "mxfp4": 39, "tq1_0": 34, "tq2_0": 35,
    "q2_k": 10, "q3_k": 11, "q4_k": 12, "q5_k": 13, "q6_k": 14,
    "iq2_xxs": 16, "iq2_xs": 17, "iq2_s": 22, "iq3_xxs": 18, "iq3_s": 21, "iq4_nl": 20, "iq4_xs": 23,
})  # fmt: skip
# Types that the cache of keys and values may have.
CACHE_TYPES: Final = ("f32", "f16", "bf16", "q8_0", "q4_0")
# Slots of a cache block.
SLOTS: Final = 16
# Columns of a matrix that can be packed are a multiple of this, and of its type's block.
COLUMNS: Final = 32

_NO_KERNEL, _NO_MEMORY, _FAULT, _NOT_FINITE, _FAR_APART = -1, -2, -3, -4, -5
# Only what is written to takes memory, but for the rest of a huge page at each region's end.
_REGION: Final = 256 << 20
_GRIDS: Final = ("iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s")
_grids: dict[str, np.ndarray] = {}
_set: set[str] = set()


@dataclass(frozen=True, slots=True)
class Isa:
    """An instruction set that kernels were compiled for."""

    index: int
    name: str


def instruction_sets() -> list[Isa]:
    """Return the sets that were compiled and that this processor has, best first."""
    found = [] if _native is None else _native.isas()
    return [Isa(index, name) for index, (name, supported) in enumerate(found) if supported]


def choose(name: str | None) -> Isa | None:
    """Return the instruction set `name`, or the best without one; None for "none", or where nothing was built.

    Raises InvalidRequest for a name that this processor or build does not have.
    """
    sets = instruction_sets()
    if name is None:
        return sets[0] if sets else None
    if name == "none":
        return None
    for isa in sets:
        if isa.name == name or isa.name.split("_")[0] == name:
            return isa
    known = ", ".join([isa.name for isa in sets] + ["none"])
    raise InvalidRequest(
        f"there are no kernels for '{name}' here", field="MULL_CPU", hint=f"MULL_CPU may be {known}"
    )


def why_not() -> str:
    """Say why there are no native kernels."""
    return (
        "they were not built: install a C++ compiler, then mull again" if _native is None else "MULL_CPU=none"
    )


def set_threads(count: int) -> None:
    """Set how many threads the kernels use, the caller's included; a process has one set, as torch's."""
    if _native is not None:
        _native.set_threads(count)


def seconds() -> float:
    """Return the seconds that this process has spent in native computation."""
    return 0.0 if _native is None else _native.seconds()


class Memory:
    """Zeroed memory in huge pages, handed out piece by piece and given back all at once."""

    def __init__(self) -> None:
        self._regions: list[tuple[int, int]] = []
        self._next = self._end = 0
        self.nbytes = 0
        # Not at exit: the engine's thread may still be inside.
        weakref.finalize(self, _release, self._regions).atexit = False

    def take(self, nbytes: int) -> int:
        """Return the address of `nbytes`, aligned to 64; raises OutOfMemory."""
        nbytes = -(-nbytes // 64) * 64
        if self._end - self._next < nbytes:
            size = max(nbytes, _REGION)
            address = _native.reserve(size)
            if not address:
                raise OutOfMemory(
                    f"{nbytes / 1e6:.0f} MB of memory cannot be had", hint="close other programs"
                )
            self._regions.append((address, size))
            self._next, self._end = address, address + size
        self._next += nbytes
        self.nbytes += nbytes
        return self._next - nbytes


def _release(regions: list[tuple[int, int]]) -> None:
    for address, size in regions:
        _native.release(address, size)


class Packed:
    """A matrix [rows, cols] as one instruction set's products read it, once it has been packed."""

    # Every panel holds a divisor of as many rows.
    ROWS: Final = 16

    def __init__(self, isa: Isa, dtype: str, shape: tuple[int, int], memory: Memory) -> None:
        """Take the memory; raises NotSupported for a type or shape without kernels, OutOfMemory."""
        self.isa, self.dtype, self.shape = isa, dtype, shape
        self.type = TYPES[dtype]
        self._memory = memory
        _load_grid(dtype)
        size = packed_bytes(isa, dtype, *shape)
        if size is None:
            raise NotSupported(f"a {dtype} matrix of {list(shape)} has no native kernel")
        self.address = memory.take(size)

    def part(self, first: int, weight: Tensor) -> tuple[int, ...]:
        """Return what packs stored rows, contiguous, of which the first is a multiple of ROWS: numbers for `pack`."""
        rows, cols = len(weight), self.shape[1]
        before = _native.packed_bytes(self.isa.index, self.type, first, cols) if first else 0
        return self.type, rows, cols, weight.data_ptr(), self.address + before, 0

    def multiply(self, x: Tensor) -> Tensor:
        """Multiply x [m, cols]; returns float32 [m, rows]."""
        x = x.float().contiguous()
        y = torch.empty(len(x), self.shape[0])
        if len(x):
            check(
                _native.multiply(
                    self.isa.index, self.type, self.address, *self.shape, x.data_ptr(), len(x), y.data_ptr()
                )
            )
        return y


def pack(isa: Isa, parts: Sequence[tuple[int, ...]], memory: Memory) -> None:
    """Pack parts of matrices (Packed.part) together; memory: for weights too far apart for 12 bits (twelve.h).

    Raises OutOfMemory, and CorruptFile for a file that was cut short.
    """
    result = _native.pack(isa.index, array("q", itertools.chain.from_iterable(parts)))
    if result == _FAR_APART and len(parts) > 1:
        for part in parts:
            pack(isa, [part], memory)
    elif result == _FAR_APART:
        kind, rows, cols, weights, packed, _ = parts[0]
        wide = memory.take(2 * cols * (rows + Packed.ROWS))
        check(_native.pack(isa.index, array("q", (kind, rows, cols, weights, packed, wide))))
    else:
        check(result)


def packed_bytes(isa: Isa, dtype: str, rows: int, cols: int) -> int | None:
    """Return the bytes of a packed matrix; None for a type or shape without kernels."""
    if dtype not in TYPES:
        return None
    size = _native.packed_bytes(isa.index, TYPES[dtype], rows, cols)
    return None if size < 0 else size


def encode(
    isa: Isa, source: tuple[str, Tensor], cols: int, kind: str, importance: Tensor | None, out: Tensor
) -> bool:
    """Quantize stored rows, contiguous, into `out`, uint8 [rows, bytes]; False where there is no kernel for it.

    source: the rows' type, and the rows.  importance: float32 [cols], how much an error in a column matters.
    Raises CorruptFile where a weight is not finite or too large for the type, or where a file was cut short.
    """
    name, stored = source
    if kind not in ENCODED or name not in TYPES:
        return False
    _load_grid(name)
    _load_grid(kind)
    kinds, counts = (ENCODED[kind], TYPES[name]), 0 if importance is None else importance.data_ptr()
    result = _native.encode(isa.index, *kinds, stored.data_ptr(), len(stored), cols, counts, out.data_ptr())
    if result == _NO_KERNEL:
        return False
    check(result)
    return True


def packed_types(isa: Isa) -> dict[str, float]:
    """Return the types that have kernels, and the bytes that a packed weight takes."""
    sizes = {name: packed_bytes(isa, name, 16, 256) for name in TYPES}
    return {name: size / (16 * 256) for name, size in sizes.items() if size is not None}


def cache_bytes(isa: Isa, dtype: str, head_dim: int) -> int | None:
    """Return the bytes of SLOTS keys or values of one head; None for a type or size without kernels."""
    size = _native.cache_bytes(isa.index, TYPES[dtype], head_dim) if dtype in CACHE_TYPES else -1
    return None if size < 0 else size


def highest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the `count` largest of x [n], or all (kernels/reference.py)."""
    x = x.float().contiguous()
    count = min(count, len(x))
    places, values = torch.empty(count, dtype=torch.long), torch.empty(count)
    if count:
        check(_native.largest(_best, x.data_ptr(), len(x), count, places.data_ptr(), values.data_ptr()))
    return places, values


def check(result: int) -> None:
    """Raise what a kernel's return value stands for."""
    if result == _NO_MEMORY:
        raise OutOfMemory("no memory for a step of the model", hint="a shorter context needs less: --num-ctx")
    if result == _NOT_FINITE:
        raise CorruptFile("a weight is not finite, or too large for the type", hint="is the file damaged?")
    if result == _FAULT:
        raise CorruptFile("the model's file was cut short while it was in use", hint="download it again")
    assert result == 0, f"a native kernel returned {result}"


def _load_grid(dtype: str) -> None:
    """Hand a codebook to the kernels, as magnitudes; the gguf package has them."""
    if dtype not in _GRIDS or dtype in _set:
        return
    import gguf

    quant = getattr(gguf.quants, dtype.upper())
    quant.init_grid()
    values = np.ascontiguousarray(quant.grid.reshape(-1), dtype=np.uint8)
    kept = _grids.setdefault(dtype, values)  # of several threads, one comes first
    _native.set_grid(ENCODED[dtype], kept.ctypes.data)
    _set.add(dtype)


BEST: Final = next(iter(instruction_sets()), None)
if BEST is not None:
    _best: Final = BEST.index
    kernel("highest", device="cpu")(highest)
