"""How many guesses each sequence's next step verifies: as many as pay."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Final, Protocol

# Drafts of one step, of all sequences together: steps should stay short, whatever they bring.
MOST_DRAFTS: Final = 24
# What must be gained before drafts are worth their trouble: costs are known no better than this.
_MARGIN: Final = math.log(1.03)


class CostOf(Protocol):
    """The cost of a step by its number of tokens."""

    def __getitem__(self, num_tokens: int) -> float: ...


def allot(chances: Sequence[Sequence[float]], num_pending: int, costs: CostOf) -> list[int]:
    """Return how many guesses to draft for each sequence.

    chances: for each sequence and guess how likely the step accepts it, never rising; num_pending: the tokens that the
    step has without drafts.

    A sequence's speed is what it expects of a step, 1 and the sum of its chances, over the step's cost. The product
    of all speeds is made the largest, so that none is slowed for a smaller gain of others: guess by guess, always the
    one that brings most.
    """
    counts = [0] * len(chances)
    expected = [1.0] * len(chances)
    heap = [(-math.log1p(row[0]), index) for index, row in enumerate(chances) if row and row[0] > 0]
    heapq.heapify(heap)
    taken: list[int] = []
    gain, best, num_best = 0.0, _MARGIN, 0
    base = math.log(costs[num_pending])
    while heap and len(taken) < MOST_DRAFTS:
        worth, index = heapq.heappop(heap)
        gain -= worth
        taken.append(index)
        expected[index] += chances[index][counts[index]]
        counts[index] += 1
        if counts[index] < len(chances[index]) and (chance := chances[index][counts[index]]) > 0:
            heapq.heappush(heap, (-math.log1p(chance / expected[index]), index))
        net = gain - len(chances) * (math.log(costs[num_pending + len(taken)]) - base)
        if net > best:
            best, num_best = net, len(taken)
    counts = [0] * len(chances)
    for index in taken[:num_best]:
        counts[index] += 1
    return counts
