"""The endpoints of Ollama's dialect that talk to a model: generate and chat."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ...chat.infill import infill_prompt
from ...errors import NotSupported
from ..adapters import ollama_requests
from ..adapters.ollama import Chunks, timestamp
from ..adapters.ollama_fields import ChatBody, EmbedBody, GenerateBody
from ..adapters.ollama_requests import Asked, full_name
from ..bodies import described, read_body, told
from ..stream import OpenReply, ndjson_response, open_reply, to_json, while_there
from . import ollama_create, ollama_models
from .ollama_models import check_name, own_context

router = APIRouter(tags=["ollama"])
router.include_router(ollama_models.router)
router.include_router(ollama_create.router)


@router.post("/api/generate", response_model=None, openapi_extra=described(GenerateBody))
async def generate(request: Request) -> Response:
    """Continue a prompt, as a stream of JSON lines unless `stream` is false; without a prompt, load the model."""
    started = time.perf_counter()
    body = await read_body(request, GenerateBody)
    asked = ollama_requests.generate(body)
    if asked.suffix is not None and asked.chat is not None:
        asked = await _with_infill(request, asked, body.prompt or "", asked.suffix)
    chunks = Chunks(body.model, chat=False, started=started, context=not body.raw and asked.suffix is None)
    return await _answer(request, asked, chunks, body)


@router.post("/api/chat", response_model=None, openapi_extra=described(ChatBody))
async def chat(request: Request) -> Response:
    """Answer a conversation, as a stream of JSON lines unless `stream` is false; without one, load the model."""
    started = time.perf_counter()
    body = await read_body(request, ChatBody)
    asked = ollama_requests.chat(body)
    return await _answer(request, asked, Chunks(body.model, chat=True, started=started), body)


@router.post("/api/embed", response_model=None, openapi_extra=described(EmbedBody))
@router.post("/api/embeddings", response_model=None, openapi_extra=described(EmbedBody))
async def embed(request: Request) -> Response:
    """Refuse to embed, which no model of ours does yet."""
    body = await read_body(request, EmbedBody)
    full_name(body.asked)
    text = "embeddings are not implemented yet: this server generates text only"
    return _json({"error": text}, status=501)


async def _answer(request: Request, asked: Asked, chunks: Chunks, body: GenerateBody | ChatBody) -> Response:
    """Answer what was asked, in the form that was asked for."""
    check_name(request, asked.model)
    if asked.num_ctx is not None:
        asked = await _within_its_context(request, asked, asked.num_ctx)
    if asked.chat is None:
        return await _load(request, asked, chunks)
    if body.debug_render_only:
        return await _rendered(request, asked)
    opened = await _open(request, asked)
    if "logprobs" in asked.chat.options:
        chunks.spell = opened.model.llm.tokenizer.token_bytes
    # By which /api/control ends its thought.
    headers = {"X-Mull-Id": opened.reply.id, **told(asked.ignored, asked.notes)}
    if body.stream is not False:
        return ndjson_response(opened, chunks, headers=headers)
    return _json(chunks.whole(await opened.collect()), headers=headers)


async def _within_its_context(request: Request, asked: Asked, num_ctx: int) -> Asked:
    """Ask for no longer context than the model's own; clients name one without knowing it."""
    own = await own_context(request, asked.model)
    if own is None or num_ctx <= own:
        return asked
    note = f"num_ctx {num_ctx} is more than the model's own, {own}, which is taken"
    return replace(asked, num_ctx=own, notes=(*asked.notes, note))


async def _load(request: Request, asked: Asked, chunks: Chunks) -> Response:
    """Load the model, or with keep_alive 0 let go of it."""
    pool = request.app.state.pool
    headers = told(asked.ignored, asked.notes)
    if asked.keep_alive == 0:
        await pool.unload(asked.model)
        return _json(chunks.loaded("unload"), headers=headers)

    async def load() -> None:
        async with pool.use(asked.model, num_ctx=asked.num_ctx, keep_alive=asked.keep_alive):
            pass

    await while_there(request.receive, load())
    return _json(chunks.loaded("load"), headers=headers)


async def _rendered(request: Request, asked: Asked) -> Response:
    """Return the prompt that the model would get."""
    async with request.app.state.pool.use(asked.model, keep_alive=asked.keep_alive) as model:
        prompt = await run_in_threadpool(model.llm.prompt, asked.chat)
    info = {"rendered_template": prompt.text, "image_count": 0}
    return _json({"model": asked.model, "created_at": timestamp(), "_debug_info": info})


async def _open(request: Request, asked: Asked) -> OpenReply:
    """Begin the reply; what the model cannot do is said in Ollama's words."""
    assert asked.chat is not None
    try:
        return await open_reply(
            request, asked.model, asked.chat, num_ctx=asked.num_ctx, keep_alive=asked.keep_alive
        )
    except NotSupported as refusal:
        if refusal.field == "think":
            raise NotSupported(f'"{asked.model}" does not support thinking', field="think") from refusal
        if refusal.field == "tools":
            raise NotSupported(f"{full_name(asked.model)} does not support tools", field="tools") from refusal
        raise


async def _with_infill(request: Request, asked: Asked, prompt: str, suffix: str) -> Asked:
    """Put the text before and after a gap as the model knows it. Raises NotSupported if it knows no gaps."""
    assert asked.chat is not None
    async with request.app.state.pool.use(asked.model, keep_alive=asked.keep_alive) as model:
        raw = infill_prompt(model.llm.tokenizer.token_id, prompt, suffix)
    if raw is None:
        raise NotSupported(f"{full_name(asked.model)} does not support insert", field="suffix")
    return replace(asked, chat=replace(asked.chat, raw=raw))


def _json(
    value: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(to_json(value), status, headers, "application/json; charset=utf-8")
