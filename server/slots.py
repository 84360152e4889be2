"""How many requests of one model run at once, and how many may wait for their turn, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque

from ..errors import MullError

ENDING = "the server is about to end"


class ServerBusy(MullError):
    """More requests than may wait, or the server is about to end."""

    status = 503


class Slots:
    """Turns to run; all of it happens on the event loop."""

    def __init__(self, count: int, max_waiting: int) -> None:
        self.count = count
        self.running = 0
        self._max_waiting = max_waiting
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(not turn.done() for turn in self._queue)

    async def acquire(self) -> None:
        """Wait for a turn; whoever gives up waiting leaves the queue. Raises ServerBusy if too many wait."""
        if self.running < self.count and not self.waiting:
            self.running += 1
            return
        if self.waiting >= self._max_waiting:
            raise ServerBusy("server busy, please try again.  maximum pending requests exceeded")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the turn came at the moment that nobody wanted it any more
            elif turn in self._queue:
                self._queue.remove(turn)
            raise

    def refuse(self) -> None:
        """Turn away all that wait."""
        for turn in self._queue:
            if not turn.done():
                turn.set_exception(ServerBusy(ENDING))
        self._queue.clear()

    def release(self) -> None:
        """End a turn; the next in the queue has it."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1
