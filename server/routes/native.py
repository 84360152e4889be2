"""What our own command line asks of a server: requests and events as they are, and what a loaded model is."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ... import __version__
from ...errors import InvalidRequest
from ..adapters import native
from ..bodies import Fields, described, read_body
from ..pool import Loaded, ModelPool
from ..stream import ndjson_response, open_reply, to_json, while_there

router = APIRouter(prefix="/mull", tags=["mull"])


class ChatBody(Fields):
    """A request for a model of the server's."""

    model: str
    request: dict[str, object]
    num_ctx: int | None = None


class ReplyBody(Fields):
    """A reply under way."""

    id: str


@router.get("/server")
async def server() -> Response:
    """Say what this server is."""
    return _json({"server": "mull", "version": __version__})


@router.get("/model")
async def model(request: Request, name: str, num_ctx: str | None = None) -> Response:
    """Load a model if need be, and say what it is."""
    wanted = None
    if num_ctx is not None:
        if not (num_ctx.isascii() and num_ctx.isdigit() and len(num_ctx) < 10):
            raise InvalidRequest("num_ctx must be a whole number", field="num_ctx")
        wanted = int(num_ctx)
    pool: ModelPool = request.app.state.pool

    async def loaded() -> dict[str, object]:
        async with pool.use(name, num_ctx=wanted) as held:
            return _facts(held)

    return _json(await while_there(request.receive, loaded()))


@router.post("/chat", openapi_extra=described(ChatBody))
async def chat(request: Request) -> Response:
    """Answer a request, an event a line."""
    body = await read_body(request, ChatBody)
    opened = await open_reply(request, body.model, native.read_request(body.request), num_ctx=body.num_ctx)
    return ndjson_response(opened, native.Chunks())


@router.post("/measure", openapi_extra=described(ChatBody))
async def measure(request: Request) -> Response:
    """Return the tokens of a request's prompt, and the most that its thought may take."""
    body = await read_body(request, ChatBody)
    asked = native.read_request(body.request)
    async with request.app.state.pool.use(body.model, num_ctx=body.num_ctx) as held:
        tokens, budget = await run_in_threadpool(held.llm.measure, asked)
    return _json({"tokens": tokens, "budget": budget})


@router.post("/end_thinking", openapi_extra=described(ReplyBody))
async def end_thinking(request: Request) -> Response:
    """Have a reply answer now."""
    body = await read_body(request, ReplyBody)
    for held in request.app.state.pool.loaded:
        held.llm.end_thinking(body.id)
    return _json({})


@router.post("/abort", openapi_extra=described(ReplyBody))
async def abort(request: Request) -> Response:
    """End a reply."""
    body = await read_body(request, ReplyBody)
    for held in request.app.state.pool.loaded:
        held.llm.abort(body.id)
    return _json({})


def _facts(model: Loaded) -> dict[str, object]:
    llm = model.llm
    return {
        "name": model.name,
        "digest": model.found.digest,
        "context_length": llm.context_length,
        "backend": llm.backend,
        "notes": llm.notes,
        "can_think": llm.family.can_think,
        "defaults": {name: [native.to_plain(each.value), each.source] for name, each in llm.defaults.items()},
    }


def _json(value: object) -> Response:
    return Response(to_json(value), media_type="application/json")
