"""One forward pass: the tokens of every scheduled sequence, laid end to end, and where their keys and values go."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..kernels.dispatch import find
from ..kernels.reference import AttentionShape
from .cache import KVCache
from .layers.rope import Rotary


@dataclass(frozen=True, slots=True)
class Span:
    """One sequence's share of a step: its new tokens, what was computed before them, and its blocks.

    num_logits: how many of its last tokens want logits.
    """

    token_ids: Sequence[int]
    num_computed: int
    blocks: Sequence[int]
    num_logits: int


def flatten(spans: Sequence[Span]) -> tuple[array[int], tuple[int, int, int]]:
    """Lay the spans end to end for a native program.

    Returns the numbers (kernels/cpu/program.py) and how many tokens, sequences and rows of logits there are.
    """
    tokens: list[int] = []
    positions: list[int] = []
    sequences: list[int] = []
    wanted: list[int] = []
    blocks: list[int] = []
    for span in spans:
        count = len(span.token_ids)
        sequences += (len(tokens), count, span.num_computed, len(blocks))
        tokens += span.token_ids
        positions += range(span.num_computed, span.num_computed + count)
        wanted += range(len(tokens) - span.num_logits, len(tokens))
        blocks += span.blocks
    counts = (len(tokens), len(spans), len(wanted))
    return array("i", [*tokens, *positions, *sequences, *wanted, *blocks]), counts


@dataclass(slots=True)
class Batch:
    """T tokens of one step; made by `Batch.of`, passed down, never global."""

    token_ids: Tensor
    positions: Tensor
    slots: Tensor
    logits_rows: Tensor
    cache: KVCache
    query_lens: list[int]
    places: list[slice | Tensor]
    _rotations: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, spans: Sequence[Span], cache: KVCache) -> Batch:
        """Lay the spans end to end."""
        token_ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        rows: list[int] = []
        places: list[slice | Tensor] = []
        size = cache.block_size
        for span in spans:
            first, end = span.num_computed, span.num_computed + len(span.token_ids)
            token_ids.extend(span.token_ids)
            positions.extend(range(first, end))
            slots.extend(span.blocks[at // size] * size + at % size for at in range(first, end))
            rows.extend(range(len(token_ids) - span.num_logits, len(token_ids)))
            places.append(cache.locate(span.blocks, end))
        return cls(
            token_ids=torch.tensor(token_ids, device=cache.device),
            positions=torch.tensor(positions, device=cache.device),
            slots=torch.tensor(slots, device=cache.device),
            logits_rows=torch.tensor(rows, dtype=torch.long, device=cache.device),
            cache=cache,
            query_lens=[len(span.token_ids) for span in spans],
            places=places,
        )

    def rotation(self, rotary: Rotary) -> tuple[Tensor, Tensor]:
        """Return the rotary tables of this step's positions, computed once for all layers."""
        key = id(rotary)
        if key not in self._rotations:
            self._rotations[key] = rotary.tables(self.positions)
        return self._rotations[key]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, shape: AttentionShape) -> Tensor:
        """Append k and v [T, K, D] to the cache, then attend q [T, H, D], each sequence to its own context."""
        self.cache.append(layer, self.slots, k, v)
        attend = find("attend", device=self.cache.device.type)
        if len(self.query_lens) == 1:
            whole: Tensor = attend(q, *self.cache.read(layer, self.places[0]), shape)
            return whole
        parts = [
            attend(queries, *self.cache.read(layer, place), shape)
            for queries, place in zip(torch.split(q, self.query_lens), self.places, strict=True)
        ]
        return torch.cat(parts)
