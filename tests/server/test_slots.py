"""Turns to run: as many as there are, the rest in a queue of limited length."""

from __future__ import annotations

import asyncio

import pytest
from mull.server.slots import ServerBusy, Slots


def test_turns_are_dealt_out_in_the_order_of_asking():
    async def run() -> list[int]:
        slots, order = Slots(2, 10), []

        async def work(index: int) -> None:
            await slots.acquire()
            order.append(index)
            await asyncio.sleep(0)
            slots.release()

        await asyncio.gather(*(work(index) for index in range(6)))
        assert (slots.running, slots.waiting) == (0, 0)
        return order

    assert asyncio.run(run()) == list(range(6))


def test_more_than_may_wait_are_turned_away():
    async def run() -> None:
        slots = Slots(1, 2)
        await slots.acquire()
        waiting = [asyncio.ensure_future(slots.acquire()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ServerBusy, match="maximum pending requests exceeded"):
            await slots.acquire()
        slots.release()
        await waiting[0]
        third = asyncio.ensure_future(slots.acquire())  # one place in the queue is free again
        await asyncio.sleep(0)
        for _ in range(2):
            slots.release()
        await asyncio.gather(waiting[1], third)
        slots.release()
        assert slots.running == 0

    asyncio.run(run())


def test_whoever_gives_up_leaves_the_queue_even_at_the_moment_of_the_turn():
    async def run() -> None:
        slots = Slots(1, 5)
        await slots.acquire()
        first, second, third = (asyncio.ensure_future(slots.acquire()) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        assert slots.waiting == 2
        slots.release()  # the second's turn has come
        second.cancel()  # and it does not want it any more
        await asyncio.wait_for(third, 1)
        assert (slots.running, slots.waiting) == (1, 0)

    asyncio.run(run())


def test_an_ending_server_turns_away_those_that_wait():
    async def run() -> None:
        slots = Slots(1, 5)
        await slots.acquire()
        waiting = asyncio.ensure_future(slots.acquire())
        await asyncio.sleep(0)
        slots.refuse()
        with pytest.raises(ServerBusy, match="about to end"):
            await waiting
        slots.release()
        assert slots.running == 0

    asyncio.run(run())
