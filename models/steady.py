"""Steps whose numbers depend on nothing but a sequence's own tokens, where torch computes.

A product of torch rounds a row by how many rows there are and where it stands among them. So every token is computed in
a pass of one size, at the place that its position gives it; the places of other tokens are empty, and what comes of
them is dropped. Each token attends by itself. That costs: sequences are not computed together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.dispatch import find
from ..kernels.reference import AttentionShape
from .batch import Batch, Span
from .cache import KVCache

# Tokens of a pass. Where a token chooses experts, how many rows each of them gets depends on its neighbours.
TOGETHER = 16
BY_EXPERTS = 1


@dataclass(slots=True)
class SteadyBatch(Batch):
    """A pass of one sequence; `first` and those after it are the rows of its own tokens.

    query_lens is 1 for each of them, places are where each one's context lies.
    """

    first: int = 0

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, shape: AttentionShape) -> Tensor:
        """Append k and v [T, K, D] of its own tokens to the cache, then attend each q [H, D] by itself."""
        own = slice(self.first, self.first + len(self.query_lens))
        self.cache.append(layer, self.slots, k[own], v[own])
        attend = find("attend", device=self.cache.device.type)
        found: list[Tensor] = [
            attend(q[row : row + 1], *self.cache.read(layer, place), shape)
            for row, place in enumerate(self.places, self.first)
        ]
        before, after = self.first, len(q) - own.stop
        empty = found[0].new_zeros(1, *found[0].shape[1:])
        return torch.cat([*[empty] * before, *found, *[empty] * after])


def steady_batches(spans: Sequence[Span], cache: KVCache, together: int) -> Iterator[tuple[Batch, list[int]]]:
    """Cut a step into passes of `together` rows, and yield each with the rows of logits that are wanted of it.

    A pass of which any are wanted gives all its rows' logits.
    """
    for span in spans:
        end = span.num_computed + len(span.token_ids)
        start = span.num_computed
        while start < end:
            stop = min(end, (start // together + 1) * together)
            wanted = [at % together for at in range(max(start, end - span.num_logits), stop)]
            yield _batch(span, (start, stop), cache, together, bool(wanted)), wanted
            start = stop


def _batch(span: Span, part: tuple[int, int], cache: KVCache, together: int, is_wanted: bool) -> SteadyBatch:
    """Return the pass of the tokens at positions part[0] to part[1] - 1."""
    start, stop = part
    first = start % together
    ids = [0] * together
    ids[first : first + stop - start] = span.token_ids[start - span.num_computed : stop - span.num_computed]
    begin, size, device = start - first, cache.block_size, cache.device
    slots = [span.blocks[at // size] * size + at % size for at in range(start, stop)]
    return SteadyBatch(
        token_ids=torch.tensor(ids, device=device),
        positions=torch.arange(begin, begin + together, device=device),
        slots=torch.tensor(slots, device=device),
        logits_rows=torch.arange(together if is_wanted else 0, device=device),
        cache=cache,
        query_lens=[1] * (stop - start),
        places=[cache.locate(span.blocks, at + 1) for at in range(start, stop)],
        first=first,
    )
