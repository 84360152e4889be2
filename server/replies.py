"""One reply for an HTTP client: the engine's events, carried from a thread of their own into the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from types import TracebackType
from typing import Protocol

from ..chat.request import ChatRequest
from ..chat.stream import Done, Event, Progress
from ..errors import EngineStopped


class ModelLike(Protocol):
    """What a reply needs of a model."""

    def chat(self, request: ChatRequest) -> Iterator[Event]: ...

    def abort(self, request_id: str) -> None: ...


class Reply:
    """The events of one reply. Use it as an async context manager: leaving it early stops the engine's work.

    async with Reply(model, request, threads) as reply:     # raises what is wrong with the request
        async for event in reply: ...                       # raises what goes wrong later

    begun_at, first_at: when it was begun and its first token came (time.perf_counter()); done: its end;
    prompt_tokens: what its prompt takes, once that has been told.
    """

    def __init__(
        self,
        model: ModelLike,
        request: ChatRequest,
        threads: Executor,
        ended: Callable[[], None] | None = None,
    ) -> None:
        """Prepare a reply; `ended` is called on the loop once the model is no longer needed for it."""
        self.request = request if request.id is not None else replace(request, id=uuid.uuid4().hex)
        self._model = model
        self._threads = threads
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[Event] = deque()
        self._something = asyncio.Event()
        self._is_told = False  # the loop knows already that something has arrived
        self._is_wanted = True
        self._end: Exception | None = None
        self._has_ended = False
        self._running: asyncio.Future[None] | None = None
        self.begun_at = time.perf_counter()
        self.first_at: float | None = None
        self.done: Done | None = None
        self.prompt_tokens: int | None = None

    @property
    def id(self) -> str:
        """By which the reply can be told to stop thinking, or to stop."""
        assert self.request.id is not None
        return self.request.id

    async def __aenter__(self) -> Reply:
        self._start()
        try:
            await self._wait()
        except BaseException:
            await self.leave()
            raise
        if not self._arrived and self._end is not None:
            raise self._end
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if not self._arrived:
            await self._wait()
        if self._arrived:
            return self._arrived.popleft()
        if self._end is not None:
            raise self._end
        raise StopAsyncIteration

    async def arrived(self) -> list[Event]:
        """Wait for events and return all that have come; none at the end. Raises what went wrong, after them."""
        if not self._arrived:
            await self._wait()
        if not self._arrived and self._end is not None:
            raise self._end
        return [self._arrived.popleft() for _ in range(len(self._arrived))]

    def _start(self) -> None:
        """Begin in a thread; whatever comes of it, `ended` is called once."""
        try:
            self._running = self._loop.run_in_executor(self._threads, self._run)
        except RuntimeError as closed:  # the threads were shut down with the model
            if self._ended is not None:
                self._ended()
            raise EngineStopped("the model was unloaded") from closed
        if self._ended is not None:
            ended = self._ended
            self._running.add_done_callback(lambda _: ended())

    async def _wait(self) -> None:
        """Wait until there is an event, or the end."""
        while not self._arrived and not self._has_ended:
            self._something.clear()
            self._is_told = False
            if self._arrived or self._has_ended:  # between the look above and the line before
                return
            await self._something.wait()

    async def leave(self) -> None:
        """Stop the engine's work on the reply, if there still is any, and wait until it has stopped."""
        self._is_wanted = False
        if not self._has_ended:
            self._model.abort(self.id)
        if self._running is not None:
            # Whoever cancels this wait must still find the thread's end awaited by somebody.
            with contextlib.suppress(Exception):
                await asyncio.shield(self._running)

    def _run(self) -> None:
        """In a thread: take the events as they come."""
        try:
            events = self._model.chat(self.request)
            if not self._is_wanted:  # it was not under way yet when it was to be stopped
                close = getattr(events, "close", None)
                if close is not None:
                    close()
                return
            for event in events:
                self._note(event)
                self._arrived.append(event)
                self._tell()
        except Exception as error:
            self._end = error
        finally:
            self._has_ended = True
            self._is_told = False
            self._tell()

    def _note(self, event: Event) -> None:
        if self.first_at is None and not isinstance(event, Progress):
            self.first_at = time.perf_counter()
        if isinstance(event, Progress):
            self.prompt_tokens = event.total
        if isinstance(event, Done):
            self.done = event
            self.prompt_tokens = event.usage.prompt_tokens

    def _tell(self) -> None:
        """Wake the loop, unless it has been and has not looked yet."""
        if not self._is_told:
            self._is_told = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
                self._loop.call_soon_threadsafe(self._something.set)
