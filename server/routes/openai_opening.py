"""How OpenAI's endpoints begin replies: of which model, several at once, and all of them or none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ...chat.request import ChatRequest
from ...chat.stream import Event
from ...errors import InvalidRequest
from ..adapters.openai_options import Common
from ..bodies import told
from ..keep_alive import parse_keep_alive
from ..pool import Loaded
from ..stream import OpenReply, open_reply


def model_name(request: Request, name: str | None) -> str:
    """Return the model that a request means: the last used one if it names none."""
    if name:
        return name
    loaded: Sequence[Loaded] = request.app.state.pool.loaded
    if not loaded:
        raise InvalidRequest("model is required: none is loaded", field="model")
    return loaded[0].name


async def open_all(
    request: Request, name: str, asked: Sequence[ChatRequest], common: Common
) -> list[OpenReply]:
    """Begin all of a request's replies at once; if one cannot be, none is."""
    keep_alive = parse_keep_alive(common.keep_alive)
    opening = [open_reply(request, name, one, num_ctx=common.num_ctx, keep_alive=keep_alive) for one in asked]
    if len(opening) == 1:
        return [await opening[0]]
    found = await asyncio.gather(*opening, return_exceptions=True)
    failures = [one for one in found if isinstance(one, BaseException)]
    opened = [one for one in found if isinstance(one, OpenReply)]
    if failures:
        await asyncio.gather(*(one.close() for one in opened))
        raise failures[0]
    return opened


async def collect_all(opened: Sequence[OpenReply]) -> list[list[Event]]:
    """Return all events of all replies; if one fails, the others are stopped."""
    try:
        return list(await asyncio.gather(*(one.collect() for one in opened)))
    finally:
        await asyncio.gather(*(one.close() for one in opened))


async def counted(request: Request, name: str, asked: ChatRequest, common: Common) -> Response:
    """Answer how many tokens the prompt of a request has."""
    keep_alive = parse_keep_alive(common.keep_alive)
    async with request.app.state.pool.use(name, num_ctx=common.num_ctx, keep_alive=keep_alive) as model:
        prompt = await run_in_threadpool(model.llm.prompt, asked)
    answer = {"object": "response.input_tokens", "input_tokens": len(prompt.ids)}
    return JSONResponse(answer, headers=told(common.ignored, common.notes))
