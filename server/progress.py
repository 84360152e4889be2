"""Long work that tells how far it is: done in a thread, its news written as JSON lines."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive

from ..errors import Cancelled, MullError
from .stream import to_json, while_there

Report = Callable[[Mapping[str, object]], None]
Work = Callable[[Report], None]

_log = logging.getLogger("mull.server")


async def progress_response(
    work: Work,
    *,
    stream: bool,
    headers: Mapping[str, str] | None = None,
    left: Callable[[], None] | None = None,
    receive: Receive | None = None,
) -> Response:
    """Run `work(report)` in a thread and send what it reports: line by line, or with stream=False only the last.

    What fails before the first report is raised; later, the last line says so. Once the client has left, which with
    stream=False only `receive` tells, the next report raises Cancelled in the thread, and `left` is called.
    """
    news: asyncio.Queue[Mapping[str, object] | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    has_left = threading.Event()

    def report(line: Mapping[str, object]) -> None:
        if has_left.is_set():
            raise Cancelled("the client has left")
        with suppress(RuntimeError):  # the loop is closed: the server has ended
            loop.call_soon_threadsafe(news.put_nowait, line)

    def gone() -> None:
        has_left.set()
        if left is not None:
            left()

    running = loop.run_in_executor(None, work, report)
    running.add_done_callback(lambda _: news.put_nowait(None))

    async def last_of(line: Mapping[str, object]) -> Mapping[str, object]:
        while (following := await news.get()) is not None:
            line = following
        return line

    first = await news.get()
    if first is None:
        running.result()
        return _whole({}, headers)
    if stream:
        lines = _lines(first, news, running, gone)
        return StreamingResponse(lines, headers=dict(headers or {}), media_type="application/x-ndjson")
    try:
        last = await (last_of(first) if receive is None else while_there(receive, last_of(first)))
    finally:
        gone()
        running.add_done_callback(lambda done: done.exception())
    running.result()
    return _whole(last, headers)


async def _lines(
    line: Mapping[str, object] | None,
    news: asyncio.Queue[Mapping[str, object] | None],
    running: asyncio.Future[None],
    gone: Callable[[], None],
) -> AsyncIterator[bytes]:
    """Yield a first line and those that follow, then what went wrong if something did."""
    try:
        while line is not None:
            yield to_json(line) + b"\n"
            line = await news.get()
        try:
            running.result()
        except MullError as failure:
            yield to_json({"error": failure.message}) + b"\n"
        except Exception as bug:
            _log.exception("a long request failed")
            yield to_json({"error": f"internal error: {type(bug).__name__}"}) + b"\n"
    finally:
        gone()
        # An error that nobody is there to hear of any more is heard of here.
        running.add_done_callback(lambda done: done.exception())


def _whole(line: Mapping[str, object], headers: Mapping[str, str] | None) -> Response:
    return Response(to_json(line), 200, headers, "application/json; charset=utf-8")
