"""Programs of the native executor: a model's step, recorded once as operations on float buffers."""

from __future__ import annotations

import contextlib
import struct
import weakref
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ...errors import NotSupported, OutOfMemory
from . import native
from .native import Isa, Packed, check

with contextlib.suppress(ImportError):  # without it no program is ever recorded
    from . import _native

_ARGUMENTS = 24
_OP = struct.Struct(f"<q{_ARGUMENTS}q4d")
_MOST_MATRICES = 3
# How the names of types with blocks of 256 end.
_OF_256 = ("_k", "_xs", "iq3_s")
_KINDS = {"silu_mul": 0, "gelu_mul": 1}


class _Code(IntEnum):
    """Operations, in program.h's order."""

    EMBED = 0
    ANGLES = auto()
    SELECT = auto()
    NORM = auto()
    RESIDUAL = auto()
    PRODUCT = auto()
    ROTATE = auto()
    ATTEND = auto()
    GATE = auto()
    EXPERTS = auto()
    CAP = auto()


class Attention(IntEnum):
    """How attention goes (mull.h)."""

    FAST = 0
    PLAIN = auto()
    STEADY = auto()


class Place(NamedTuple):
    """A buffer and a column in it; `width` columns from there are meant."""

    buffer: int
    column: int
    width: int

    def part(self, start: int, width: int) -> Place:
        """Return `width` columns from `start`."""
        return Place(self.buffer, self.column + start, width)


@dataclass(frozen=True, slots=True)
class Heads:
    """The shape of attention: what AttentionShape says, and how many heads of which size."""

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int = 0
    softcap: float = 0.0


class Linear(Protocol):
    """What a recorder must know of a matrix in use."""

    packed: Packed | None
    bias: Tensor | None


class Recorder:
    """Writes a program down. Buffers are known by name: the same name is the same memory in every layer.

    "branch" holds what a part of a layer begins with, and then what it adds to the residual stream.
    """

    def __init__(self, isa: Isa) -> None:
        self.isa = isa
        self._ops: list[bytes] = []
        self._names: dict[str, Place] = {}
        self._widths: list[int] = []
        self._keep: list[object] = []
        self._narrowed: tuple[Place, int] | None = None

    def buffer(self, name: str, width: int) -> Place:
        """Return the buffer `name`, at least `width` wide."""
        place = self._names.get(name)
        if place is None:
            place = self._names[name] = Place(len(self._widths), 0, width)
            self._widths.append(width)
        self._widths[place.buffer] = max(self._widths[place.buffer], width)
        return place._replace(width=width)

    def has(self, name: str) -> bool:
        """Tell whether there is a buffer of this name."""
        return name in self._names

    def embed(self, to: Place, table: Tensor, dtype: str, factor: float, is_mapped: bool) -> None:
        """Fetch the step's rows of a stored table, times `factor`; a mapped table's pages do not stay in memory."""
        row_bytes = table.stride(0) * table.element_size()
        pages = table.nbytes if is_mapped else 0
        numbers = (self._at(table), native.TYPES[dtype], row_bytes, to.width, pages)
        self._add(_Code.EMBED, to.buffer, *numbers, f=(factor,))

    def angles(self, to: Place, frequencies: Tensor, factor: float) -> None:
        """Compute cosines and sines [T, 2·n] of the positions, turned by frequencies [n], times `factor`."""
        self._add(_Code.ANGLES, to.buffer, len(frequencies), self._at(frequencies), f=(factor,))

    def narrow(self, x: Place, layer: int) -> None:
        """Go on, once `layer` has attended, with the rows that logits are wanted of, in x and in what it found."""
        self._narrowed = x, layer

    def norm(self, source: Place, to: Place, weight: Tensor, eps: float) -> None:
        """Normalise groups as long as `weight` by their root mean square."""
        groups = source.width // len(weight)
        self._add(_Code.NORM, *source[:2], *to[:2], len(weight), self._at(weight), groups, f=(eps,))

    def residual(
        self, x: Place, y: Place, factor: float, weight: Tensor | None = None, eps: float = 0.0
    ) -> None:
        """Add factor · y to x, y normalised first if there is a weight."""
        address = 0 if weight is None else self._at(weight)
        self._add(_Code.RESIDUAL, x.buffer, y.buffer, x.width, address, f=(factor, eps))

    def product(self, source: Place, linear: Linear, to: Place) -> None:
        """Multiply with a matrix, and add its bias."""
        self.products(source, [(linear, to)])

    def products(self, source: Place, outputs: Sequence[tuple[Linear, Place]]) -> None:
        """Multiply with matrices that share their input; raises NotSupported for one that is not packed."""
        left = list(outputs)
        while left:
            # Those of one form only: the input is laid out once for all of them.
            form = _form(_packed(left[0][0]))
            alike = [output for output in left if _form(_packed(output[0])) == form][:_MOST_MATRICES]
            left = [output for output in left if output not in alike]
            numbers: list[int] = []
            for linear, to in alike:
                numbers += self._matrix(linear, to)
            self._add(_Code.PRODUCT, *source[:2], source.width, len(alike), *numbers)

    def gated_product(self, source: Place, gate: Linear, up: Linear, to: Place, activation: str) -> None:
        """Compute act(gate · source) · (up · source), without room for the second factor if the matrices are alike."""
        if _packed(gate).type != _packed(up).type:
            other = self.buffer("up", to.width)
            self.products(source, [(gate, to), (up, other)])
            self.gate(to, other, to, activation)
            return
        numbers = (*self._matrix(gate, to), *self._matrix(up, to), *(0,) * 6)
        self._add(_Code.PRODUCT, *source[:2], source.width, 2, *numbers, 1 + _KINDS[activation])

    def rotate(self, x: Place, head_dim: int, angles: Place, interleaved: bool) -> None:
        """Turn every head by the angles."""
        half = angles.width // 2
        heads = x.width // head_dim
        self._add(_Code.ROTATE, *x[:2], heads, head_dim, angles.buffer, half, int(interleaved))

    def attend(self, q: Place, k: Place, v: Place, to: Place, layer: int, heads: Heads) -> None:
        """Append k and v to the cache of `layer` and attend to it; `to` may be q."""
        assert to.column == 0
        numbers = (heads.heads, heads.kv_heads, heads.head_dim, layer, heads.window)
        self._add(_Code.ATTEND, *q[:2], *k[:2], *v[:2], to.buffer, *numbers, f=(heads.scale, heads.softcap))
        if self._narrowed is not None and self._narrowed[1] == layer:
            for place in (to, self._narrowed[0]):
                self._add(_Code.SELECT, place.buffer, place.buffer, place.width)

    def gate(self, gate: Place, up: Place, to: Place, activation: str) -> None:
        """Compute act(gate) · up."""
        self._add(_Code.GATE, *gate[:2], *up[:2], to.buffer, to.width, _KINDS[activation])

    def experts(
        self, x: Place, router: Place, to: Place, experts: Sequence[Sequence[Linear]], chosen: int, *,
        renormalise: bool, activation: str,
    ) -> None:  # fmt: skip
        """Send each row through the `chosen` experts that the router prefers; experts: all gates, ups and downs."""
        matrices = [[_packed(linear) for linear in each] for each in experts]
        lists = [self._at(torch.tensor([matrix.address for matrix in each])) for each in matrices]
        self._keep.append(matrices)
        inner, hidden = matrices[0][0].shape
        sizes = (hidden, inner, len(matrices[0]), chosen, int(renormalise), _KINDS[activation])
        types = (each[0].type for each in matrices)
        if _form(matrices[0][0]) != _form(matrices[1][0]):
            raise NotSupported("experts whose gates and ups want their input differently")
        self._add(_Code.EXPERTS, x.buffer, router.buffer, to.buffer, *sizes, *lists, *types)

    def cap(self, x: Place, factor: float, cap: float) -> None:
        """Squeeze factor · x into (-cap, cap); a cap of 0 is none."""
        self._add(_Code.CAP, x.buffer, x.width, f=(factor, cap))

    def finish(self, max_tokens: int) -> Program:
        """Return the program for steps of at most `max_tokens`."""
        return Program(self.isa, b"".join(self._ops), self._widths, max_tokens, self._keep)

    def _matrix(self, linear: Linear, to: Place) -> tuple[int, ...]:
        matrix = _packed(linear)
        self._keep.append(matrix)
        address = 0 if linear.bias is None else self._at(linear.bias)
        return matrix.address, matrix.type, matrix.shape[0], *to[:2], address

    def _at(self, tensor: Tensor) -> int:
        self._keep.append(tensor)
        return tensor.data_ptr()

    def _add(self, code: _Code, *numbers: int, f: tuple[float, ...] = ()) -> None:
        padding = (0,) * (_ARGUMENTS - len(numbers))
        self._ops.append(_OP.pack(code, *numbers, *padding, *f, *(0.0,) * (4 - len(f))))


def logits(width: int) -> Place:
    """Return the place of the step's logits."""
    return Place(-1, 0, width)


def _packed(linear: Linear) -> Packed:
    if linear.packed is None:
        raise NotSupported("a matrix without a native kernel")
    return linear.packed


def _form(matrix: Packed) -> str:
    """Tell how a type wants its input laid out."""
    if matrix.dtype in ("f32", "f16", "bf16"):
        return matrix.dtype
    return "of 256" if matrix.dtype.endswith(_OF_256) else "of 32"


class Program:
    """A recorded program, ready to run."""

    def __init__(
        self, isa: Isa, operations: bytes, widths: list[int], max_tokens: int, keep: list[object]
    ) -> None:
        """Reserve its buffers; raises OutOfMemory."""
        self.max_tokens = max_tokens
        self._keep = keep  # what the operations point at
        self._handle = _native.program(isa.index, operations, array("q", widths).tobytes(), max_tokens)
        if not self._handle:
            raise OutOfMemory("no memory to compute in", hint="close other programs")
        # Not at exit: the engine's thread may still be inside.
        weakref.finalize(self, _native.free, self._handle).atexit = False

    def run(
        self,
        numbers: array[int],
        counts: tuple[int, int, int],
        cache: CacheTable,
        logits: Tensor,
        *,
        attention: Attention = Attention.FAST,
    ) -> None:
        """Run a step; logits: float32 [wanted, vocab], filled.

        numbers, of 32 bits: the tokens, their positions, four for each sequence (first row, rows, tokens before
        them, where its blocks begin), the wanted rows, the blocks; counts: tokens, sequences, wanted rows.
        Raises OutOfMemory, and CorruptFile if the model's file was cut short.
        """
        check(_native.run(self._handle, numbers, *counts, cache.address, logits.data_ptr(), attention))

    def attention_bytes(self) -> int:
        """Return the most bytes that attention worked in since this was last asked."""
        return _native.attention_bytes(self._handle)


class CacheTable:
    """Where a cache's keys and values of each layer begin, their types, and the bytes from one block to the next."""

    def __init__(
        self, types: tuple[str, str], stride: int, keys: Sequence[int], values: Sequence[int]
    ) -> None:
        numbers = (native.TYPES[name] for name in types)
        self._numbers = array("q", [*numbers, stride, stride, len(keys), *keys, *values])

    @property
    def address(self) -> int:
        """The table's own address."""
        return self._numbers.buffer_info()[0]
