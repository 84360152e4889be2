"""A server in a thread, on a socket of its own, for tests that speak HTTP to it."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI
from mull.server.app import make_app
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool
from mull.settings import Settings


@dataclass
class Live:
    """A server that runs in a thread: its address, its application, and its store's folder."""

    base_url: str
    port: int
    app: FastAPI
    server: uvicorn.Server
    loop: asyncio.AbstractEventLoop

    @property
    def pool(self) -> ModelPool:
        return self.app.state.pool

    def on_loop(self, coroutine):
        """Run a coroutine on the server's event loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)


@contextlib.contextmanager
def serving(options: ServerOptions, settings: Settings, pool: ModelPool | None = None) -> Iterator[Live]:
    """Run a server in a thread, on a free port of the loopback; returns when it listens."""
    app = make_app(options, settings, pool)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        ws="none",
    )
    server = uvicorn.Server(config)
    listening: list[asyncio.AbstractEventLoop] = []
    ready = threading.Event()

    async def run() -> None:
        serving_task = asyncio.ensure_future(server.serve())
        while not server.started and not serving_task.done():
            await asyncio.sleep(0.005)
        listening.append(asyncio.get_running_loop())
        ready.set()
        await serving_task

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="serving")
    thread.start()
    assert ready.wait(30)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Live(f"http://127.0.0.1:{port}", port, app, server, listening[0])
    finally:
        server.should_exit = True
        thread.join(120)
        if thread.is_alive():
            faulthandler.dump_traceback()
        assert not thread.is_alive(), "the server did not end"
