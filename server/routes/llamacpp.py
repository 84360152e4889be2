"""The endpoints that llama.cpp's server has beside OpenAI's."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ...errors import InvalidRequest
from ..adapters import llamacpp
from ..adapters.llamacpp_fields import CompletionBody, ControlBody, DetokenizeBody, TemplateBody, TokenizeBody
from ..adapters.openai_fields import MOST_CHOICES
from ..adapters.openai_options import Common
from ..bodies import described, read_body, told
from ..pool import ModelPool
from ..stream import sse_response, to_json
from .openai_opening import collect_all, open_all

router = APIRouter(tags=["llama.cpp"])

_LONGEST_ID = 200


@router.post("/completion", response_model=None, openapi_extra=described(CompletionBody))
@router.post("/completions", response_model=None, openapi_extra=described(CompletionBody))
async def completion(request: Request) -> Response:
    """Continue a prompt as it is, without a chat template, or each of several."""
    body = await read_body(request, CompletionBody)
    name = _model(request, body.model)
    async with request.app.state.pool.use(name) as model:
        encode = partial(model.llm.tokenizer.encode, special=False, parse_special=True)
        asked = await run_in_threadpool(llamacpp.request, body, encode)
    # Not within: whoever holds a model while it waits for a turn keeps others from taking the model's place.
    opened = await open_all(request, name, asked.chats, Common())
    headers = told(asked.ignored)
    token_bytes = opened[0].model.llm.tokenizer.token_bytes
    chunks = [
        llamacpp.Chunks(name, token_bytes, index, return_tokens=body.return_tokens, stream=body.stream)
        for index in range(len(opened))
    ]
    if body.stream:
        return sse_response(opened, chunks, headers=headers)
    events = await collect_all(opened)
    whole = [one.whole(each) for one, each in zip(chunks, events, strict=True)]
    answer = whole[0] if len(whole) == 1 else whole
    return Response(to_json(answer), media_type="application/json", headers=headers)


@router.post("/tokenize", openapi_extra=described(TokenizeBody))
async def tokenize(request: Request) -> dict[str, Any]:
    """Turn a text into tokens."""
    body = await read_body(request, TokenizeBody)
    async with request.app.state.pool.use(_model(request, body.model)) as model:
        tokenizer = model.llm.tokenizer
        ids = await run_in_threadpool(
            tokenizer.encode, body.content, special=body.add_special, parse_special=body.parse_special
        )
        if not body.with_pieces:
            return {"tokens": ids}
        return {"tokens": [{"id": token, "piece": _piece(tokenizer.token_bytes(token))} for token in ids]}


@router.post("/detokenize", openapi_extra=described(DetokenizeBody))
async def detokenize(request: Request) -> dict[str, Any]:
    """Turn tokens into text."""
    body = await read_body(request, DetokenizeBody)
    async with request.app.state.pool.use(_model(request, body.model)) as model:
        tokenizer = model.llm.tokenizer
        unknown = next((token for token in body.tokens if not 0 <= token < tokenizer.vocab_size), None)
        if unknown is not None:
            raise InvalidRequest(f"there is no token {unknown}", field="tokens")
        return {"content": await run_in_threadpool(tokenizer.decode, body.tokens)}


@router.post("/apply-template", openapi_extra=described(TemplateBody))
async def apply_template(request: Request) -> dict[str, Any]:
    """Write a conversation as the model's template has it."""
    body = await read_body(request, TemplateBody)
    async with request.app.state.pool.use(_model(request, body.model)) as model:
        prompt = await run_in_threadpool(model.llm.prompt, llamacpp.conversation(body))
        return {"prompt": prompt.text}


@router.post("/v1/chat/completions/control", openapi_extra=described(ControlBody))
@router.post("/api/control", openapi_extra=described(ControlBody))
async def control(request: Request) -> dict[str, Any]:
    """End the thought of a reply under way: its answer follows at once."""
    body = await read_body(request, ControlBody)
    if body.action != "reasoning_end":
        raise InvalidRequest(f"unknown action {body.action!r}; there is reasoning_end", field="action")
    pool: ModelPool = request.app.state.pool
    ended = [model.llm.end_thinking(one) for model in pool.loaded for one in _request_ids(body.id)]
    if not any(ended):
        raise llamacpp.ReplyNotFound(f"no reply {body.id!r} is under way")
    return {"id": body.id, "success": True}


@router.get("/props")
async def props(request: Request, model: str | None = None) -> dict[str, Any]:
    """Tell of a model: its context, its template, its defaults."""
    async with request.app.state.pool.use(_model(request, model)) as loaded:
        llm = loaded.llm
        tokenizer = llm.tokenizer
        named = {name: sourced.value for name, sourced in llm.defaults.items()}
        ends = (tokenizer.bos_id, tokenizer.eos_id)
        bos, eos = ("" if token is None else tokenizer.token_text(token) for token in ends)
        return {
            "default_generation_settings": {"n_ctx": llm.context_length, "params": named},
            "total_slots": request.app.state.pool.options.parallel,
            "model_alias": loaded.name,
            "model_path": str(llm.checkpoint.path),
            "modalities": {"vision": False, "audio": False},
            "chat_template": llm.template.source if llm.template is not None else "",
            "bos_token": bos,
            "eos_token": eos,
            "build_info": llm.backend,
        }


@router.get("/slots")
async def slots(request: Request) -> JSONResponse:
    """Tell of the models in memory and of the requests that each is busy with."""
    pool: ModelPool = request.app.state.pool
    found = [
        {
            "id": index,
            "model": model.name,
            "n_ctx": model.llm.context_length,
            "is_processing": index < model.in_use,
        }
        for model in pool.loaded
        for index in range(pool.options.parallel)
    ]
    return JSONResponse(found)


def _request_ids(reply_id: str) -> list[str]:
    """Return the requests behind a reply: Anthropic's has a prefix, and all but the first choice a number."""
    first = reply_id[:_LONGEST_ID].removeprefix("msg_")
    return [first, *(f"{first}-{number}" for number in range(1, MOST_CHOICES))]


def _model(request: Request, name: str | None) -> str:
    """Return the model that is meant: the one that was used last where none is named."""
    if name:
        return name
    loaded = request.app.state.pool.loaded
    if not loaded:
        raise InvalidRequest("no model is in memory: name one in the field 'model'", field="model")
    return str(loaded[0].name)


def _piece(piece: bytes) -> str | list[int]:
    """Return a token's text, or its bytes where they are no whole characters."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
