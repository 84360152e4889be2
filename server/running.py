"""A server's life: listening, serving, and ending in order once a signal says so."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType

import uvicorn

from ..errors import InvalidRequest, MullError
from ..settings import Settings
from .address import Address, leave_path, listen
from .app import make_app
from .connections import Connection
from .options import ServerOptions
from .pool import ModelPool

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_FLUSH = 5
_FILES = 65536
_log = logging.getLogger("mull.server")


def serve(options: ServerOptions, settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until a signal comes. `announce` is called with the address once requests are heard.

    Raises CannotListen, and InvalidRequest for a certificate that cannot be read.
    """
    pool = ModelPool(options, settings)
    config = uvicorn.Config(
        make_app(options, settings, pool),
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=_FLUSH,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidRequest(
            f"the certificate or its key cannot be used: {reason}", field="tls_cert"
        ) from error
    _allow_many_files()
    sockets = listen(options)
    server = _Server(config, pool, lambda: announce(_address(options, sockets)))
    try:
        server.run(sockets)
    finally:
        if options.socket is not None:
            leave_path(options.socket)


def start_log(level: str) -> None:
    """Write the log to stderr, from a level of LEVELS on."""
    logging.basicConfig(
        level=LEVELS[level], stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s", force=True
    )
    for others in ("uvicorn", "asyncio", "httpx", "httpcore"):
        logging.getLogger(others).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_a_fault)


def _is_a_fault(record: logging.LogRecord) -> bool:
    """Tell faults from requests that were cut because the server ends, which uvicorn shows with a traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class _Server(uvicorn.Server):
    """Ends in order at the first signal: new requests are refused, running ones may end; at once at the second."""

    def __init__(self, config: uvicorn.Config, pool: ModelPool, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._pool = pool
        self._announce = started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_ending = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, tell of it, and load what is to be loaded from the start."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._announce()
        self._start(self._preload())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; called within the interpreter's own handler."""
        if self._is_ending:
            os._exit(128 + sig)
        self._is_ending = True
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(lambda: self._start(self._drain(signal.Signals(sig).name)))

    async def _drain(self, why: str) -> None:
        pool = self._pool
        pool.refuse()
        if pool.running:
            _log.info("%s: %d replies may still end; a second signal ends at once", why, pool.running)
        until = time.monotonic() + pool.options.grace
        while pool.running and time.monotonic() < until:
            await asyncio.sleep(0.02)
        self.should_exit = True

    async def _preload(self) -> None:
        for name in self._pool.options.models:
            try:
                async with self._pool.use(name) as model:
                    for note in model.llm.notes:
                        _log.info("%s: %s", model.name, note)
            except MullError as error:
                _log.error("%s was not loaded: %s", name, error.message)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _address(options: ServerOptions, sockets: list[socket.socket]) -> str:
    if options.socket is not None:
        return options.socket
    scheme = "http" if options.tls_cert is None else "https"
    host, port = sockets[0].getsockname()[:2]
    return Address(host if options.host not in ("localhost",) else options.host, port, scheme).url


def _allow_many_files() -> None:
    """Let this process have as many connections as the system lets it."""
    with suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
