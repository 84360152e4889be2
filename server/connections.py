"""Connections as uvicorn has them, but closed where a client keeps the server waiting for its request."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

PATIENCE = 60.0
"""Seconds for the head of a request to come whole, and for each further piece of its body; twice as many at most."""

_Awaited = tuple[RequestResponseCycle | None, int]


class Connection(H11Protocol):
    """One connection; uvicorn's own waits for ever, so that a few clients could use up all that there may be."""

    _num_pieces = 0
    _watching: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to watch."""
        super().connection_made(transport)
        self._watch(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End watching."""
        if self._watching is not None:
            self._watching.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._num_pieces += 1
        super().data_received(data)

    def _watch(self, before: _Awaited | None) -> None:
        """Close the connection if what was awaited the last time still is; otherwise look again later."""
        now = self._awaited()
        if now is not None and now == before:
            self.transport.close()
        else:
            self._watching = self.loop.call_later(PATIENCE, self._watch, now)

    def _awaited(self) -> _Awaited | None:
        """Return what the client has to send next: a head, after how many pieces, or None if it is our turn."""
        if self.conn.their_state is h11.IDLE:
            return self.cycle, 0  # a head that comes a letter at a time has not come
        return (self.cycle, self._num_pieces) if self.conn.their_state is h11.SEND_BODY else None
