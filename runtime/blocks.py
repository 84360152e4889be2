"""Who holds which block of the KV cache, in integers only: references, reuse of equal prefixes, eviction.

A block's life:

    free ──reserve──► held ──publish──► held, cached ──release──► idle, cached ──match──► held, cached
      ▲                 │                                              │
      └─────release─────┘                                              │
      └───────────────────────eviction, longest unused first───────────┘
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

_ROOT: Final = 0
_FREE_RUN: Final = re.compile(rb"\x01+")


class Holder(Protocol):
    """What the pool must know of a sequence; it changes `blocks` and `num_published`, and nothing else.

    num_settled: how many of its computed tokens will stay; num_published: how many of its blocks have been offered
    for reuse, all of them full.
    """

    @property
    def tokens(self) -> Sequence[int]: ...
    @property
    def num_computed(self) -> int: ...
    @property
    def num_settled(self) -> int: ...

    blocks: list[int]
    num_published: int


class BlockPool:
    """Blocks of `block_size` tokens; full ones are found again by the tokens from the start up to their end.

    A prefix has a number that is never used twice, and a block is filed under (number of the prefix before
    it, its own tokens). Keys are compared whole, so texts of equal hashes cannot be confused.
    """

    def __init__(self, num_blocks: int, block_size: int, *, reuse: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.reuse = reuse
        self._last_prefix = _ROOT
        self.clear()

    def clear(self) -> None:
        """Forget every holder and every cached block."""
        self._refs = [0] * self.num_blocks
        self._free = bytearray(b"\x01" * self.num_blocks)
        self._num_free = self.num_blocks
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._by_key: dict[tuple[int, tuple[int, ...]], int] = {}
        self._keys: list[tuple[int, tuple[int, ...]] | None] = [None] * self.num_blocks
        self._prefixes = [_ROOT] * self.num_blocks

    @property
    def num_available(self) -> int:
        """Return how many blocks can be handed out, idle cached ones included."""
        return self._num_free + len(self._idle)

    @property
    def num_cached(self) -> int:
        """Return how many blocks are kept for reuse and held by nobody."""
        return len(self._idle)

    def blocks_for(self, num_tokens: int) -> int:
        """Return how many blocks hold this many tokens."""
        return -(-num_tokens // self.block_size)

    def match(self, tokens: Sequence[int]) -> tuple[list[int], int]:
        """Take the cached blocks that begin `tokens`; return them and how many tokens they hold.

        The last token is always left to compute, or there would be no logits. The caller owns the references.
        """
        found: list[int] = []
        prefix = _ROOT
        if self.reuse:
            for start in range(0, len(tokens) - self.block_size, self.block_size):
                block = self._by_key.get((prefix, tuple(tokens[start : start + self.block_size])))
                if block is None:
                    break
                found.append(block)
                prefix = self._prefixes[block]
        for block in found:
            if not self._refs[block]:
                del self._idle[block]
            self._refs[block] += 1
        return found, len(found) * self.block_size

    def find(self, tokens: Sequence[int]) -> list[int]:
        """Return the cached blocks that begin `tokens`, without holding them."""
        found: list[int] = []
        prefix = _ROOT
        for start in range(0, len(tokens) - self.block_size + 1, self.block_size):
            block = self._by_key.get((prefix, tuple(tokens[start : start + self.block_size])))
            if block is None:
                break
            found.append(block)
            prefix = self._prefixes[block]
        return found

    def add(self, tokens: Sequence[int]) -> int | None:
        """File a free block as the last of `tokens`, whose other blocks are cached; the caller fills it.

        Returns None if it is cached already, if those before it are not, or if no block is free: nothing is evicted.
        """
        found = self.find(tokens)
        last = len(tokens) // self.block_size - 1
        if len(found) != last or not self._num_free or not self.reuse:
            return None
        block, _ = self._place(found[-1] if found else None, 1)
        self._free[block] = 0
        self._num_free -= 1
        key = (self._prefixes[found[-1]] if found else _ROOT, tuple(tokens[last * self.block_size :]))
        self._last_prefix += 1
        self._by_key[key], self._keys[block] = block, key
        self._prefixes[block] = self._last_prefix
        self._idle[block] = None
        return block

    def next_key(self, seq: Holder) -> tuple[int, tuple[int, ...]] | None:
        """Return what the next block of `seq` will be filed under; None if it will not be full, or not reused."""
        start = seq.num_published * self.block_size
        end = start + self.block_size
        if not self.reuse or len(seq.tokens) < end:
            return None
        prefix = self._prefixes[seq.blocks[seq.num_published - 1]] if start else _ROOT
        return prefix, tuple(seq.tokens[start:end])

    def extend(self, seq: Holder) -> int:
        """Swap blocks of `seq` that are not full for cached ones of the same text, as far as they go.

        Returns how many tokens its full blocks hold now; the last token is always left to compute.
        """
        while (seq.num_published + 1) * self.block_size < len(seq.tokens):
            block = self._by_key.get(self.next_key(seq) or (-1, ()))
            if block is None:
                break
            if not self._refs[block]:
                del self._idle[block]
            self._refs[block] += 1
            if seq.num_published < len(seq.blocks):
                own = seq.blocks[seq.num_published]
                self._refs[own] = 0
                self._set_free(own)
            seq.blocks[seq.num_published : seq.num_published + 1] = [block]
            seq.num_published += 1
        return seq.num_published * self.block_size

    def reserve(self, seq: Holder, num_tokens: int) -> bool:
        """Give `seq` room for `num_tokens` beyond those computed; False, and no change, if there is none."""
        missing = self.blocks_for(seq.num_computed + num_tokens) - len(seq.blocks)
        if missing <= 0:
            return True
        if missing > self.num_available:
            return False
        while self._num_free < missing:
            self._evict()
        while missing:
            start, length = self._place(seq.blocks[-1] if seq.blocks else None, missing)
            for block in range(start, start + length):
                self._free[block] = 0
                self._refs[block] = 1
                seq.blocks.append(block)
            self._num_free -= length
            missing -= length
        return True

    def publish(self, seq: Holder) -> None:
        """Offer the newly full blocks of `seq` for reuse."""
        if not self.reuse:
            return
        size = self.block_size
        for index in range(seq.num_published, seq.num_settled // size):
            block = seq.blocks[index]
            prefix = self._prefixes[seq.blocks[index - 1]] if index else _ROOT
            key = (prefix, tuple(seq.tokens[index * size : (index + 1) * size]))
            twin = self._by_key.get(key)
            if twin is None:
                self._last_prefix += 1
                self._by_key[key], self._keys[block] = block, key
                self._prefixes[block] = self._last_prefix
            else:
                # Another sequence computed the same text meanwhile: our block stays private.
                self._prefixes[block] = self._prefixes[twin]
            seq.num_published = index + 1

    def release(self, seq: Holder) -> None:
        """Take all blocks back from `seq`; published ones stay cached until their room is needed."""
        # The last block goes first, so that a prefix is never evicted before what continues it.
        for block in reversed(seq.blocks):
            self._refs[block] -= 1
            if self._refs[block]:
                continue
            if self._keys[block] is None:
                self._set_free(block)
            else:
                self._idle[block] = None
        seq.blocks = []
        seq.num_published = 0

    def check(self, holders: Iterable[Holder] = ()) -> None:
        """Assert the pool's invariants; `holders` are all sequences that hold blocks."""
        holders = list(holders)
        held = Counter(block for seq in holders for block in seq.blocks)
        assert held == {block: refs for block, refs in enumerate(self._refs) if refs}, "references"
        for block, refs in enumerate(self._refs):
            cached = self._keys[block] is not None
            assert bool(self._free[block]) == (refs == 0 and not cached), f"block {block} free"
            assert (block in self._idle) == (refs == 0 and cached), f"block {block} idle"
        assert self._num_free == sum(self._free), "number of free blocks"
        keys = {key: block for block, key in enumerate(self._keys) if key is not None}
        assert keys == self._by_key, "keys"
        assert len({self._prefixes[block] for block in keys.values()}) == len(keys), "prefix numbers"
        for seq in holders:
            assert len(set(seq.blocks)) == len(seq.blocks), "a sequence holds a block twice"
            assert len(seq.blocks) >= self.blocks_for(seq.num_computed), "a computed token without a block"

    def _set_free(self, block: int) -> None:
        self._free[block] = 1
        self._num_free += 1

    def _evict(self) -> None:
        """Drop the cached block that has been idle longest."""
        block, _ = self._idle.popitem(last=False)
        key = self._keys[block]
        assert key is not None, f"block {block} is idle but not cached"
        del self._by_key[key]
        self._keys[block] = None
        self._set_free(block)

    def _place(self, last: int | None, count: int) -> tuple[int, int]:
        """Choose up to `count` free blocks in a row, best right after `last`; return (first, length).

        Attention reads a run of blocks faster than scattered ones, so a sequence is given room to grow: the
        next block if it is free, else the widest gap, of which the block before it keeps half if it can.
        """
        if last is not None and last + 1 < self.num_blocks and self._free[last + 1]:
            gap = _FREE_RUN.match(self._free, last + 1)
            assert gap is not None, "a free block begins no run"
            return last + 1, min(count, gap.end() - last - 1)
        gaps = [gap.span() for gap in _FREE_RUN.finditer(self._free)]
        start, end = max(gaps, key=lambda span: span[1] - span[0])
        middle = (start + end) // 2
        if start and end - middle >= count:
            start = middle
        return start, min(count, end - start)
