"""A mixture for a size: of every matrix's possible types, those that cost least in all and fit together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .dtype import DType, dtype
from .recipe import NEED_IMATRIX

# What a matrix may become, from the fewest bits to the most, if its rows are blocks of 256 or of 32.
_COARSE = ("iq2_xxs", "iq2_xs", "iq2_s")
_USUAL = ("q2_k", "iq3_xxs", "iq3_s", "q3_k", "iq4_xs", "iq4_nl", "q4_k", "q5_k", "q6_k", "q8_0")
_SMALL_BLOCKS = ("iq4_nl", "q4_1", "q5_0", "q5_1", "q8_0")
_FLOATS = ("bf16", "f16", "f32")
# Below so many bits on average, types of about two bits are worth their time.
_FEW_BITS = 3.6
# Steps that the room is divided into.
_STEPS = 1 << 16


@dataclass(frozen=True, slots=True)
class Option:
    """A type that a matrix may have: its size in bytes, and what it costs, in any unit."""

    kind: DType
    nbytes: int
    cost: float


@dataclass(frozen=True, slots=True)
class Item:
    """A matrix and its options."""

    name: str
    options: tuple[Option, ...]

    @property
    def smallest(self) -> Option:
        """The option of the fewest bytes, and of these the cheapest."""
        return min(self.options, key=lambda option: (option.nbytes, option.cost))


def possible_types(source: DType, shape: Sequence[int], bits: float, *, weighted: bool) -> list[DType]:
    """Return what a matrix may become, of fewer bits than it has or as it is.

    bits: what is aimed at on average; weighted: importance is known, without which the coarsest types are unusable.
    """
    names: tuple[str, ...] = (*_COARSE, *_USUAL) if bits < _FEW_BITS else _USUAL
    if shape[-1] % 256:
        names = _SMALL_BLOCKS
    found = [dtype(name) for name in (*names, *_FLOATS) if weighted or name not in NEED_IMATRIX]
    # What is read as bfloat16 may be out of float16's range, and is not made larger.
    smaller = [
        kind
        for kind in found
        if shape[-1] % kind.block == 0 and kind.bits < source.bits and (kind.is_block or source.name == "f32")
    ]
    return [*smaller, source]


def probe_type(kinds: Sequence[DType], bits: float) -> DType:
    """Return the type to try a matrix's sensitivity with: near what is aimed at, and coarse enough to be felt."""
    below = [kind for kind in kinds if kind.bits <= max(3.4, min(bits, 4.6))]
    return max(below, key=lambda kind: kind.bits) if below else min(kinds, key=lambda kind: kind.bits)


def groups(names: Sequence[str], limit: int) -> list[list[str]]:
    """Divide matrices into at most about `limit` groups: of one kind, in layers next to each other."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(re.sub(r"^blk\.\d+\.", "blk.", name), []).append(name)
    apart = sum(len(found) == 1 for found in kinds.values())
    bands = max(1, (limit - apart) // max(1, len(kinds) - apart))
    made = []
    for found in kinds.values():
        count = min(bands, len(found))
        edges = [len(found) * i // count for i in range(count + 1)]
        made += [found[a:b] for a, b in pairwise(edges)]
    return made


def solve(items: Sequence[Item], room: int) -> dict[str, Option] | None:
    """Choose one option for each matrix, of `room` bytes in all and the lowest cost; None where nothing fits.

    A knapsack with choices, solved from matrix to matrix over all sizes at once; sizes are rounded up to 1/65536 of
    the room between the smallest choice and the budget, and what that leaves is spent where it helps most.
    """
    chosen = {item.name: item.smallest for item in items}
    spare = room - sum(option.nbytes for option in chosen.values())
    if spare < 0:
        return None
    if sum(max(o.nbytes for o in item.options) for item in items) <= room:
        return {item.name: min(item.options, key=lambda o: (o.cost, -o.nbytes)) for item in items}
    step = max(1, -(-spare // _STEPS))
    places = spare // step + 1
    best = np.zeros(places)
    tables: list[tuple[list[Option], np.ndarray]] = []
    for item in items:
        options = _worthwhile(item)
        costs = np.full((len(options), places), np.inf)
        for row, option in zip(costs, options, strict=True):
            extra = -(-(option.nbytes - options[0].nbytes) // step)
            if extra < places:
                row[extra:] = best[: places - extra] + option.cost
        tables.append((options, costs.argmin(0).astype(np.uint8)))
        best = costs.min(0)
    place = places - 1
    for item, (options, table) in zip(reversed(items), reversed(tables), strict=True):
        option = options[int(table[place])]
        chosen[item.name] = option
        place -= -(-(option.nbytes - options[0].nbytes) // step)
    _spend(items, chosen, room)
    return chosen


def _worthwhile(item: Item) -> list[Option]:
    """Return the options that cost less than every smaller one, the smallest first."""
    kept: list[Option] = []
    for option in sorted(item.options, key=lambda option: (option.nbytes, option.cost)):
        if not kept or option.cost < kept[-1].cost:
            kept.append(option)
    return kept


def _spend(items: Sequence[Item], chosen: dict[str, Option], room: int) -> None:
    """Exchange options for better ones while they fit, the most gained for a byte first."""
    spare = room - sum(option.nbytes for option in chosen.values())
    while True:
        better = [
            ((now.cost - option.cost) / max(1, option.nbytes - now.nbytes), item.name, option)
            for item in items
            for option in item.options
            if option.cost < (now := chosen[item.name]).cost and option.nbytes - now.nbytes <= spare
        ]
        if not better:
            return
        _, name, option = max(better, key=lambda found: found[0])
        spare -= option.nbytes - chosen[name].nbytes
        chosen[name] = option
