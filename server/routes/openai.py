"""The endpoints of OpenAI's dialect: models, chat, completions and embeddings."""

from __future__ import annotations

import uuid
from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ...chat.stream import Done
from ...registry.store import Entry, Store
from ..adapters import openai, openai_chat, openai_completions
from ..adapters.openai import Head
from ..adapters.openai_fields import ChatBody, CompletionBody, EmbeddingsBody
from ..adapters.openai_options import Common
from ..bodies import described, read_body, told
from ..pool import Loaded
from ..stream import sse_response, to_json
from . import responses
from .openai_opening import collect_all, counted, model_name, open_all

router = APIRouter(tags=["openai"])
router.include_router(responses.router)


@router.get("/v1/models", response_model=None)
async def models(request: Request) -> Response:
    """List the models of the store."""
    entries = await run_in_threadpool(_store(request).list)
    return JSONResponse(openai.model_list(entries))


@router.get("/v1/models/{name:path}", response_model=None)
async def model(request: Request, name: str) -> Response:
    """Tell of one model."""
    entry: Entry = await run_in_threadpool(_store(request).find, name)
    return JSONResponse(openai.model_entry(entry))


@router.post("/v1/chat/completions", response_model=None, openapi_extra=described(ChatBody))
@router.post("/chat/completions", response_model=None, include_in_schema=False)
async def chat(request: Request) -> Response:
    """Answer a conversation, whole or as a stream."""
    body = await read_body(request, ChatBody)
    reply_id = f"chatcmpl-{uuid.uuid4().hex}"
    asked, common = openai_chat.requests(body, reply_id)
    name = model_name(request, body.model)
    opened = await open_all(request, name, asked, common)
    usage = body.stream_options is not None and body.stream_options.include_usage is True
    head = _head(reply_id, name, opened[0].model, common, usage=usage, logprobs=bool(body.logprobs))
    head = replace(head, tells_progress=body.return_progress is True)
    headers = told(common.ignored, common.notes)
    if not body.stream:
        whole = openai_chat.reply(head, await collect_all(opened))
        return Response(to_json(whole), media_type="application/json", headers=headers)
    dones: list[tuple[int, Done]] = []
    chunks = [openai_chat.Chunks(head, index, dones) for index in range(len(opened))]
    return sse_response(
        opened, chunks, headers=headers, last=lambda: openai.ending(head, "chat.completion.chunk", dones)
    )


@router.post("/v1/chat/completions/input_tokens", response_model=None, openapi_extra=described(ChatBody))
async def count_tokens(request: Request) -> Response:
    """Count the tokens of a conversation's prompt."""
    body = await read_body(request, ChatBody)
    [asked, *_], common = openai_chat.requests(body, "count")
    return await counted(request, model_name(request, body.model), asked, common)


@router.post("/v1/completions", response_model=None, openapi_extra=described(CompletionBody))
async def completions(request: Request) -> Response:
    """Continue one or more prompts, whole or as a stream."""
    body = await read_body(request, CompletionBody)
    reply_id = f"cmpl-{uuid.uuid4().hex}"
    asked, common = openai_completions.requests(body, reply_id)
    name = model_name(request, body.model)
    opened = await open_all(request, name, [one for _, one in asked], common)
    llm = opened[0].model.llm
    before = openai_completions.echoes(body, lambda ids: llm.tokenizer.decode(ids))
    usage = body.stream_options is not None and body.stream_options.include_usage is True
    wants = body.logprobs is not None
    head = _head(reply_id, name, opened[0].model, common, usage=usage, logprobs=wants)
    headers = told(common.ignored, common.notes)
    numbers = [number for number, _ in asked]
    if not body.stream:
        found = list(zip(numbers, await collect_all(opened), strict=True))
        whole = openai_completions.reply(head, found, before)
        return Response(to_json(whole), media_type="application/json", headers=headers)
    dones: list[tuple[int, Done]] = []
    chunks = [
        openai_completions.Chunks(head, index, number, before[number], dones)
        for index, number in enumerate(numbers)
    ]
    return sse_response(
        opened, chunks, headers=headers, last=lambda: openai.ending(head, "text_completion", dones)
    )


@router.post("/v1/embeddings", response_model=None, openapi_extra=described(EmbeddingsBody))
async def embeddings(request: Request) -> Response:
    """Refuse: there are no embeddings yet."""
    await read_body(request, EmbeddingsBody)
    failure = openai.NotServed("embeddings are not supported yet")
    # Clients try again after a status of 500 and above unless they are told not to.
    return JSONResponse(openai.error(failure), failure.status, {"x-should-retry": "false"})


def _head(reply_id: str, name: str, model: Loaded, common: Common, *, usage: bool, logprobs: bool) -> Head:
    return Head(
        id=reply_id,
        model=name,
        fingerprint=openai.fingerprint(model.name, model.llm.backend),
        shows_thinking=common.shows_thinking,
        includes_usage=usage,
        token_bytes=model.llm.tokenizer.token_bytes if logprobs else None,
    )


def _store(request: Request) -> Store:
    return Store(request.app.state.settings.models_dir)
