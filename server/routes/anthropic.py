"""The endpoints of Anthropic's dialect."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ...chat.request import ChatRequest
from ...errors import ContextExceeded
from ..adapters import anthropic
from ..adapters.anthropic_fields import CountBody, MessagesBody
from ..bodies import described, read_body, told
from ..keep_alive import parse_keep_alive
from ..stream import OpenReply, open_reply, sse_response, to_json

router = APIRouter(tags=["anthropic"])


@router.post("/v1/messages", response_model=None, openapi_extra=described(MessagesBody))
async def messages(request: Request) -> Response:
    """Answer a conversation, as one message or as a stream of events."""
    body = await read_body(request, MessagesBody)
    asked = anthropic.request(body)
    stay = parse_keep_alive(body.keep_alive)
    opened = await open_reply(request, body.model, asked.chat, num_ctx=body.num_ctx, keep_alive=stay)
    headers = told(asked.ignored, asked.notes)
    if body.stream:
        try:
            size = await run_in_threadpool(_prompt_tokens, opened, asked.chat)
        except BaseException:
            await opened.close()
            raise
        chunks = anthropic.Chunks(
            body.model, opened.reply.id, prompt_tokens=size, hide_thinking=asked.hide_thinking
        )
        return sse_response(opened, chunks, headers=headers)
    whole = anthropic.reply(
        await opened.collect(), body.model, opened.reply.id, hide_thinking=asked.hide_thinking
    )
    return Response(to_json(whole), media_type="application/json", headers=headers)


@router.post("/v1/messages/count_tokens", response_model=None, openapi_extra=described(CountBody))
async def count_tokens(request: Request) -> Response:
    """Count the tokens of a conversation's prompt."""
    body = await read_body(request, CountBody)
    asked = anthropic.request(body)
    async with request.app.state.pool.use(body.model) as model:
        prompt = await run_in_threadpool(model.llm.prompt, asked.chat)
    return JSONResponse({"input_tokens": len(prompt.ids)}, headers=told(asked.ignored, asked.notes))


def _prompt_tokens(opened: OpenReply, asked: ChatRequest) -> int:
    """Return the tokens of a reply's prompt: short ones are measured, since no progress tells of them."""
    told = opened.reply.prompt_tokens
    if told is not None:
        return told
    try:
        return opened.model.llm.measure(asked)[0]
    except ContextExceeded:  # turns were left out of it: only its end tells how many tokens remained
        return 0
