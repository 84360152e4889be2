"""Tests of the block pool: reuse, eviction, placing, and its books under thousands of random operations."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from mull.runtime.blocks import BlockPool


@dataclass(eq=False)
class Holder:
    """The least that a pool asks of a sequence."""

    tokens: list[int]
    num_computed: int = 0
    blocks: list[int] = field(default_factory=list)
    num_published: int = 0

    @property
    def num_settled(self) -> int:
        """Return what is computed: nothing is ever taken back here."""
        return self.num_computed


def compute(pool: BlockPool, tokens: list[int]) -> Holder:
    """Take `tokens` through the pool as one sequence does: match, reserve, publish."""
    seq = Holder(tokens)
    seq.blocks, seq.num_computed = pool.match(tokens)
    seq.num_published = len(seq.blocks)
    assert pool.reserve(seq, len(tokens) - seq.num_computed)
    seq.num_computed = len(tokens)
    pool.publish(seq)
    return seq


def test_a_released_prefix_is_found_again():
    pool = BlockPool(8, 4)
    first = compute(pool, list(range(10)))
    blocks = list(first.blocks)
    pool.release(first)
    pool.check()
    found, cached = pool.match([*range(8), 99, 98])
    assert (found, cached) == (blocks[:2], 8)


@pytest.mark.parametrize(("length", "cached"), [(1, 0), (4, 0), (5, 4), (8, 4), (9, 8), (12, 8), (13, 12)])
def test_the_last_token_is_always_left_to_compute(length, cached):
    pool = BlockPool(8, 4)
    pool.release(compute(pool, list(range(16))))
    assert pool.match(list(range(length)))[1] == cached


def test_the_same_tokens_after_another_prefix_are_not_reused():
    pool = BlockPool(8, 2)
    pool.release(compute(pool, [1, 2, 3, 4, 5]))
    assert pool.match([9, 9, 3, 4, 5]) == ([], 0)
    assert pool.match([3, 4, 5]) == ([], 0)


def test_equal_hashes_are_not_equal_texts():
    # In CPython hash(-1) == hash(-2), so these two blocks have the same hash.
    assert hash((-1, 5)) == hash((-2, 5))
    pool = BlockPool(8, 2)
    pool.release(compute(pool, [-1, 5, 7]))
    assert pool.match([-2, 5, 7]) == ([], 0)


def test_a_prefix_recomputed_after_eviction_does_not_revive_old_continuations():
    pool = BlockPool(4, 2)
    pool.release(compute(pool, [1, 2, 3, 4, 5]))
    other = Holder(list(range(100, 108)))
    assert pool.reserve(other, 8)
    pool.check([other])
    pool.release(other)
    assert pool.match([1, 2, 3, 4, 5]) == ([], 0)


def test_two_holders_share_a_prefix_and_it_outlives_the_first():
    pool = BlockPool(8, 2)
    first = compute(pool, [1, 2, 3, 4, 5])
    second = compute(pool, [1, 2, 3, 4, 6])
    assert second.blocks[:2] == first.blocks[:2]
    assert second.blocks[2] != first.blocks[2]
    pool.check([first, second])
    pool.release(first)
    pool.check([second])
    assert pool.num_available == 8 - 3


def test_twins_computed_at_the_same_time_keep_their_own_blocks():
    pool = BlockPool(8, 2)
    first, second = Holder([1, 2, 3]), Holder([1, 2, 3])
    for seq in (first, second):
        assert pool.reserve(seq, 3)
    for seq in (first, second):
        seq.num_computed = 3
        pool.publish(seq)
    pool.check([first, second])
    assert not set(first.blocks) & set(second.blocks)
    pool.release(second)
    assert pool.match([1, 2, 3])[0] == first.blocks[:1]


def test_the_longest_unused_is_evicted_first_and_ends_before_beginnings():
    pool = BlockPool(6, 2)
    old, new = compute(pool, [1, 2, 3, 4, 5, 6]), compute(pool, [7, 8, 9, 10, 11, 12])
    pool.release(old)
    pool.release(new)
    third = Holder([0] * 4)
    assert pool.reserve(third, 4)
    pool.check([third])
    assert pool.match([1, 2, 3, 4, 5, 6])[1] == 2
    assert pool.match([7, 8, 9, 10, 11, 12, 13])[1] == 6


def test_a_refused_reservation_changes_nothing():
    pool = BlockPool(4, 2)
    kept = compute(pool, [1, 2, 3])
    pool.release(kept)
    seq = Holder(list(range(20)))
    assert not pool.reserve(seq, 10)
    assert seq.blocks == []
    assert pool.match([1, 2, 3])[1] == 2
    pool.check([Holder([1, 2, 3], 2, [0])])


def test_without_reuse_nothing_is_cached():
    pool = BlockPool(4, 2, reuse=False)
    pool.release(compute(pool, [1, 2, 3]))
    assert pool.match([1, 2, 3]) == ([], 0)
    assert pool.num_available == 4
    pool.check()


def test_blocks_follow_one_another():
    pool = BlockPool(16, 2)
    seq = Holder(list(range(32)))
    for _ in range(6):
        assert pool.reserve(seq, 2)
        seq.num_computed += 2
    assert seq.blocks == [0, 1, 2, 3, 4, 5]


def test_neighbours_leave_one_another_room_to_grow():
    pool = BlockPool(32, 1)
    seqs = [Holder(list(range(9))) for _ in range(3)]
    for seq in seqs:
        assert pool.reserve(seq, 4)
    for _ in range(3):
        for seq in seqs:
            seq.num_computed += 1
            assert pool.reserve(seq, 4)
    pool.check(seqs)
    for seq in seqs:
        assert seq.blocks == list(range(seq.blocks[0], seq.blocks[0] + len(seq.blocks)))


def test_scattered_blocks_are_used_when_there_is_no_run():
    pool = BlockPool(6, 1)
    seqs = [Holder([0]) for _ in range(6)]
    for seq in seqs:
        assert pool.reserve(seq, 1)
    for seq in (seqs[0], seqs[2], seqs[4]):
        pool.release(seq)
    seq = Holder([0] * 3)
    assert pool.reserve(seq, 3)
    pool.check([seq, seqs[1], seqs[3], seqs[5]])
    assert pool.num_available == 0


def test_clear_forgets_everything():
    pool = BlockPool(4, 2)
    compute(pool, [1, 2, 3])
    pool.clear()
    pool.check()
    assert pool.num_available == 4
    assert pool.match([1, 2, 3]) == ([], 0)


class Model:
    """Random sequences against a pool, with what each slot holds kept beside it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.size = self.random.choice([1, 2, 4])
        self.pool = BlockPool(self.random.choice([3, 8, 24]), self.size, reuse=self.random.random() < 0.9)
        self.slots: dict[tuple[int, int], tuple[int, ...]] = {}
        self.live: list[Holder] = []

    def start(self) -> None:
        seq = Holder([self.random.randrange(2) for _ in range(self.random.randint(1, 20))])
        seq.blocks, seq.num_computed = self.pool.match(seq.tokens)
        seq.num_published = len(seq.blocks)
        assert seq.num_computed < len(seq.tokens)
        for at in range(seq.num_computed):
            assert self.slots[seq.blocks[at // self.size], at % self.size] == tuple(seq.tokens[: at + 1])
        self.live.append(seq)

    def grow(self) -> None:
        if not self.live:
            return
        seq = self.random.choice(self.live)
        if seq.num_computed == len(seq.tokens):
            seq.tokens.append(self.random.randrange(2))
        count = self.random.randint(1, len(seq.tokens) - seq.num_computed)
        available, held = self.pool.num_available, len(seq.blocks)
        if not self.pool.reserve(seq, count):
            assert (self.pool.num_available, len(seq.blocks)) == (available, held)
            assert self.pool.blocks_for(seq.num_computed + count) - held > available
            return
        for at in range(seq.num_computed, seq.num_computed + count):
            self.slots[seq.blocks[at // self.size], at % self.size] = tuple(seq.tokens[: at + 1])
        seq.num_computed += count
        self.pool.publish(seq)

    def extend(self) -> None:
        if self.live:
            seq = self.random.choice(self.live)
            before = seq.num_computed
            seq.num_computed = max(before, self.pool.extend(seq))
            assert seq.num_computed in (before, seq.num_published * self.size)
            assert seq.num_computed == before or seq.num_computed < len(seq.tokens)

    def stop(self) -> None:
        if self.live:
            self.pool.release(self.live.pop(self.random.randrange(len(self.live))))

    def step(self) -> None:
        self.random.choices([self.start, self.grow, self.extend, self.stop], weights=[2, 6, 2, 2])[0]()
        self.pool.check(self.live)
        for seq in self.live:
            for at in range(seq.num_computed):
                assert self.slots[seq.blocks[at // self.size], at % self.size] == tuple(seq.tokens[: at + 1])


@pytest.mark.parametrize("seed", range(12))
def test_thousands_of_random_operations_keep_books_and_contents(seed):
    model = Model(seed)
    for _ in range(600):
        model.step()
    for seq in model.live:
        model.pool.release(seq)
    model.pool.check()
    assert model.pool.num_available == model.pool.num_blocks
