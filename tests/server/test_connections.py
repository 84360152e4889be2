"""Connections whose client keeps a request to itself are closed; those that wait for an answer are not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import h11
import pytest
import uvicorn
from mull.server.connections import Connection
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def connected(test: Callable[[Streams, list[Connection]], Awaitable[None]]) -> None:
    """Run a test with a connection to a server that answers with a request's body; with its end of it too."""

    async def run() -> None:
        made: list[Connection] = []

        async def app(scope, receive, send) -> None:
            await PlainTextResponse(await Request(scope, receive).body())(scope, receive, send)

        def make() -> Connection:
            made.append(Connection(config, ServerState(), {}))
            return made[-1]

        config = uvicorn.Config(app, log_config=None, lifespan="off")
        config.load()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(make, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await test((reader, writer), made)
            writer.close()

    asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize(
    "sent", [b"", HEAD[:20], HEAD, HEAD + b"\r\na"], ids=["nothing", "word", "head", "body"]
)
def test_what_never_comes_whole_is_not_waited_for(sent: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mull.server.connections.PATIENCE", 0.01)

    async def test(streams: Streams, made: list[Connection]) -> None:
        reader, writer = streams
        writer.write(sent)
        assert await reader.read() == b""  # or this would wait for ever

    connected(test)


def test_a_head_that_comes_a_letter_at_a_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mull.server.connections.PATIENCE", 0.01)

    async def test(streams: Streams, made: list[Connection]) -> None:
        reader, writer = streams

        async def trickle() -> None:
            for letter in b"GET / HTTP/1.1\r\nX: " + b"a" * 60_000:  # longer heads are refused anyhow
                writer.write(bytes([letter]))
                await asyncio.sleep(0)

        trickling = asyncio.ensure_future(trickle())
        said = b""
        with suppress(ConnectionError):  # what was under way at the end is answered so
            said = await reader.read()
        assert said == b""
        assert not trickling.done()
        trickling.cancel()

    connected(test)


def test_a_slow_answer_is_waited_for():
    async def test(streams: Streams, made: list[Connection]) -> None:
        reader, writer = streams
        writer.write(HEAD + b"\r\nabc")
        while not (made and made[0].conn.their_state is h11.DONE):
            await asyncio.sleep(0)
        for _ in range(3):
            made[0]._watch(made[0]._awaited())
        assert (await reader.readuntil(b"abc")).startswith(b"HTTP/1.1 200 OK")

    connected(test)
