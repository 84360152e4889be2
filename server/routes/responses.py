"""The endpoints of OpenAI's Responses, and the latest of them, kept in memory so that they can be continued."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from ...chat.message import Message
from ...chat.stream import Event
from ...errors import MullError
from ..adapters import openai, responses
from ..adapters.responses_events import Told, Writer
from ..adapters.responses_fields import ResponsesBody
from ..bodies import described, read_body, told
from ..stream import sse_response, to_json
from .openai_opening import counted, model_name, open_all

router = APIRouter()

_MOST_KEPT = 256
_MOST_CHARACTERS = 32_000_000


class Kept:
    """The latest responses, with the conversations that they end; the oldest go first."""

    def __init__(self, most: int = _MOST_KEPT, most_characters: int = _MOST_CHARACTERS) -> None:
        self._most = most
        self._most_characters = most_characters
        self._characters = 0
        self._found: OrderedDict[str, tuple[Mapping[str, object], tuple[Message, ...], int]] = OrderedDict()

    def add(self, response: Mapping[str, object], conversation: tuple[Message, ...]) -> None:
        """Keep a response."""
        size = sum(len(message.content) + len(message.thinking or "") for message in conversation)
        self._found[str(response["id"])] = (response, conversation, size)
        self._characters += size
        while len(self._found) > self._most or self._characters > self._most_characters:
            _, (_, _, gone) = self._found.popitem(last=False)
            self._characters -= gone

    def response(self, response_id: str) -> Mapping[str, object]:
        """Return a response; raises ResponseNotFound."""
        return self._get(response_id)[0]

    def conversation(self, response_id: str) -> tuple[Message, ...]:
        """Return the conversation that a response ends; raises ResponseNotFound."""
        return self._get(response_id)[1]

    def remove(self, response_id: str) -> None:
        """Forget a response; raises ResponseNotFound."""
        self._characters -= self._get(response_id)[2]
        del self._found[response_id]

    def _get(self, response_id: str) -> tuple[Mapping[str, object], tuple[Message, ...], int]:
        if response_id not in self._found:
            raise openai.ResponseNotFound(
                f"response '{response_id[:80]}' not found", hint="only the latest are kept, in memory"
            )
        return self._found[response_id]


class _Chunks:
    """A response as a stream, kept at its end if it is to be."""

    def __init__(self, writer: Writer, kept: Kept | None, conversation: tuple[Message, ...]) -> None:
        self._writer = writer
        self._kept = kept
        self._conversation = conversation

    def feed(self, event: Event) -> Iterator[Told]:
        """Yield what an event becomes."""
        yield from self._writer.feed(event)
        if self._writer.done is not None and self._kept is not None:
            self._kept.add(self._writer.response, (*self._conversation, self._writer.turn()))

    def fail(self, failure: MullError) -> Iterator[Told]:
        """Yield what tells of an error after the beginning."""
        yield from self._writer.fail(failure)


@router.post("/v1/responses", response_model=None, openapi_extra=described(ResponsesBody))
async def create(request: Request) -> Response:
    """Answer a conversation, or continue one that is kept; whole or as a stream of events."""
    body = await read_body(request, ResponsesBody)
    reply_id = f"resp_{uuid.uuid4().hex}"
    kept = _kept(request)
    earlier = body.previous_response_id
    before = () if not earlier else kept.conversation(earlier)
    asked = responses.request(body, reply_id, before)
    name = model_name(request, body.model)
    common = asked.common
    [opened] = await open_all(request, name, [asked.chat], common)
    writer = Writer(
        reply_id,
        name,
        asked.echo,
        shows_thinking=common.shows_thinking,
        summarizes=asked.summarizes,
        token_bytes=opened.model.llm.tokenizer.token_bytes if asked.wants_logprobs else None,
    )
    chunks = _Chunks(writer, kept if body.store is not False else None, asked.conversation)
    headers = told(common.ignored, common.notes)
    if body.stream:
        return sse_response(opened, chunks, headers=headers)
    for event in await opened.collect():
        for _ in chunks.feed(event):
            pass
    return Response(to_json(writer.response), media_type="application/json", headers=headers)


@router.post("/v1/responses/input_tokens", response_model=None, openapi_extra=described(ResponsesBody))
async def count_tokens(request: Request) -> Response:
    """Count the tokens of a conversation's prompt."""
    body = await read_body(request, ResponsesBody)
    earlier = body.previous_response_id
    before = () if not earlier else _kept(request).conversation(earlier)
    asked = responses.request(body, "count", before)
    return await counted(request, model_name(request, body.model), asked.chat, asked.common)


@router.get("/v1/responses/{response_id}", response_model=None)
async def retrieve(request: Request, response_id: str) -> Response:
    """Return a response that is still kept."""
    found = _kept(request).response(response_id)
    return Response(to_json(found), media_type="application/json")


@router.delete("/v1/responses/{response_id}", response_model=None)
async def delete(request: Request, response_id: str) -> Response:
    """Forget a response."""
    _kept(request).remove(response_id)
    return JSONResponse({"id": response_id, "object": "response.deleted", "deleted": True})


def _kept(request: Request) -> Kept:
    state = request.app.state
    if not hasattr(state, "responses"):
        state.responses = Kept()
    found: Kept = state.responses
    return found
