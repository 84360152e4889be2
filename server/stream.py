"""Replies on the wire: begun before a status is sent, written as they come, stopped when the client leaves."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TypeVar

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..chat.request import ChatRequest
from ..chat.stream import Event
from ..errors import MullError
from .access import count_reply
from .pool import Loaded, ModelPool
from .replies import Reply

T = TypeVar("T")
Chunk = Mapping[str, object] | tuple[str, Mapping[str, object]] | str
"""One message of a stream: an object, an object with the name of its event (SSE), or text as it is (`[DONE]`)."""

STALLED = 300.0
"""Seconds after which a client that reads nothing is given up."""

SILENT = 15.0
"""Seconds without a message after which a stream of server-sent events says that it is still there."""

_PING = b": ping\n\n"  # a comment, which clients skip

_log = logging.getLogger("mull.server")


class ClientLeft(MullError):
    """The client closed its connection before there was anything to send."""

    status = 499


class Chunks(Protocol):
    """What a dialect makes of one reply: each event, or an error after the first byte, becomes messages."""

    def feed(self, event: Event) -> Iterable[Chunk]: ...

    def fail(self, failure: MullError) -> Iterable[Chunk]: ...


class OpenReply:
    """A reply under way: iterate over its events, then close it; closing early stops the engine's work."""

    def __init__(self, request: Request, model: Loaded, reply: Reply) -> None:
        self.request = request
        self.model = model
        self.reply = reply

    def __aiter__(self) -> AsyncIterator[Event]:
        return self.reply

    async def collect(self) -> list[Event]:
        """Return all events and close; for replies that are sent whole. Raises ClientLeft, and what goes wrong."""

        async def all_events() -> list[Event]:
            return [event async for event in self.reply]

        try:
            return await while_there(self.request.receive, all_events())
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop the reply if it has not ended; the model is let go of as soon as the engine is done with it."""
        await self.reply.leave()


async def open_reply(
    request: Request,
    model_name: str,
    chat_request: ChatRequest,
    *,
    num_ctx: int | None = None,
    keep_alive: float | None = None,
) -> OpenReply:
    """Load the model if need be, wait for a turn, and begin a reply; its first event is there when this returns.

    num_ctx: the least context; keep_alive: seconds that the model stays afterwards, below 0 for ever.
    Raises what is wrong with the request, ServerBusy, and ClientLeft.
    """
    pool: ModelPool = request.app.state.pool
    if chat_request.overflow is None and pool.options.overflow != "error":
        chat_request = replace(chat_request, overflow=pool.options.overflow)

    async def begin() -> OpenReply:
        lease = await pool.lease(model_name, num_ctx=num_ctx, keep_alive=keep_alive, slot=True)

        def ended() -> None:
            lease.release()
            count_reply(request.scope, request.app.state.metrics, lease.model.name, reply)

        reply = Reply(lease.model.llm, chat_request, lease.model.threads, ended)
        await reply.__aenter__()
        return OpenReply(request, lease.model, reply)

    return await while_there(request.receive, begin())


async def while_there(receive: Receive, work: Awaitable[T]) -> T:
    """Return what the work returns; if the client leaves first, cancel the work and raise ClientLeft."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft("request canceled")
        return working.result()
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            with suppress(asyncio.CancelledError, MullError):
                await working


def ndjson_response(
    opened: OpenReply, chunks: Chunks, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Stream a reply as JSON objects, a line each."""
    return _ReplyResponse([(opened, chunks)], _line, "application/x-ndjson", headers)


def sse_response(
    opened: OpenReply | Sequence[OpenReply],
    chunks: Chunks | Sequence[Chunks],
    *,
    headers: Mapping[str, str] | None = None,
    last: Callable[[], Iterable[Chunk]] | None = None,
) -> Response:
    """Stream a reply, or several at once with a Chunks each, as server-sent events.

    last: what comes after the end of all replies.
    """
    replies = [opened] if isinstance(opened, OpenReply) else list(opened)
    dialects = list(chunks) if isinstance(chunks, Sequence) else [chunks]
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})}
    pairs = list(zip(replies, dialects, strict=True))
    return _ReplyResponse(pairs, _server_sent, "text/event-stream; charset=utf-8", headers, last)


def to_json(value: object) -> bytes:
    """Return compact JSON in UTF-8; half of a surrogate pair, which UTF-8 has no bytes for, stays escaped."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


class _ReplyResponse(Response):
    """A response that writes replies as they come; whatever has come by the time of a write is one write."""

    def __init__(
        self,
        replies: Sequence[tuple[OpenReply, Chunks]],
        encode: Callable[[Chunk], bytes],
        media_type: str,
        headers: Mapping[str, str] | None,
        last: Callable[[], Iterable[Chunk]] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.media_type = media_type
        self.init_headers({"Content-Type": media_type, **(headers or {})})
        self._replies = replies
        self._encode = encode
        self._last = last
        self._written = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; a client that leaves ends it."""
        try:
            with suppress(ClientLeft, TimeoutError):
                await while_there(receive, self._write(send))
        finally:
            for opened, _ in self._replies:
                await opened.close()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self._written = time.monotonic()
        writers = [asyncio.ensure_future(self._write_one(send, *pair)) for pair in self._replies]
        pinging = [asyncio.ensure_future(self._ping(send))] if self._encode is _server_sent else []
        try:
            await asyncio.gather(*writers)
        finally:
            for task in (*writers, *pinging):
                task.cancel()
        end = b"".join(map(self._encode, self._last())) if self._last is not None else b""
        await _send(send, end, more=False)

    async def _ping(self, send: Send) -> None:
        """Break long silences, as while a prompt is read: proxies and clients would take them for the end."""
        with suppress(TimeoutError):  # which the next message meets as well
            while True:
                silent = time.monotonic() - self._written
                if silent >= SILENT:
                    await _send(send, _PING, more=True)
                    silent, self._written = 0.0, time.monotonic()
                await asyncio.sleep(SILENT - silent)

    async def _write_one(self, send: Send, opened: OpenReply, chunks: Chunks) -> None:
        try:
            while events := await opened.reply.arrived():
                await self._put(send, (chunk for event in events for chunk in chunks.feed(event)))
        except MullError as failure:
            await self._put(send, chunks.fail(failure))
        except (asyncio.CancelledError, TimeoutError):
            raise
        except Exception as bug:
            _log.exception("a reply failed")
            await self._put(send, chunks.fail(MullError(f"internal error: {type(bug).__name__}")))

    async def _put(self, send: Send, chunks: Iterable[Chunk]) -> None:
        """Write messages at once, if there are any."""
        body = b"".join(map(self._encode, chunks))
        if body:
            await _send(send, body, more=True)
            self._written = time.monotonic()


async def _send(send: Send, body: bytes, *, more: bool) -> None:
    """Write a piece; raises TimeoutError if the client takes nothing for long."""
    async with asyncio.timeout(STALLED):
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _line(chunk: Chunk) -> bytes:
    return to_json(chunk) + b"\n"


def _server_sent(chunk: Chunk) -> bytes:
    if isinstance(chunk, str):
        return f"data: {chunk}\n\n".encode()
    if isinstance(chunk, tuple):
        return b"event: %s\ndata: %s\n\n" % (chunk[0].encode(), to_json(chunk[1]))
    return b"data: %s\n\n" % to_json(chunk)
