"""Anthropic's Messages: its JSON as our requests, our events as its blocks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ...chat.extensions import extensions
from ...chat.message import Message, ToolCall
from ...chat.options import OPTIONS
from ...chat.request import ChatRequest, ToolChoice
from ...chat.stream import (
    Done,
    Event,
    Reasoning,
    Text,
    ToolArguments,
    ToolCallBegin,
    ToolCallEvent,
    Usage,
)
from ...chat.thinking import THINK_OPTIONS
from ...chat.thinking_fields import from_anthropic
from ...errors import InvalidRequest, MullError, NotSupported
from ...runtime.grammar.constraint import Constraint, parse_format
from .anthropic_fields import CountBody, MessagesBody, Part, Tool, Turn
from .option_values import read_option, read_stops

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    405: "invalid_request_error", 413: "request_too_large", 415: "invalid_request_error", 429: "rate_limit_error",
    499: "api_error", 503: "overloaded_error", 507: "overloaded_error",
}  # fmt: skip
_CHOICES: dict[str, ToolChoice] = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}
# What says nothing about the answer here: who asks, how it is billed, what is cached by hand.
_HARMLESS = (
    "metadata",
    "service_tier",
    "cache_control",
    "inference_geo",
    "container",
    "betas",
    "mcp_servers",
)
# Signs thoughts, which clients hand back unread: those of another run of the server are as good.
_KEY = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, what to tell its sender of it, and the fields that have no meaning here."""

    chat: ChatRequest
    notes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    hide_thinking: bool = False


def request(body: MessagesBody | CountBody) -> Asked:
    """Translate a request. Raises InvalidRequest that names the field."""
    given = {k: v for k, v in body.model_dump(exclude_unset=True).items() if v is not None}
    asked = from_anthropic(given)
    own, ignored = _own_options(body)
    options = own | _options(body) | asked.options
    chat = ChatRequest(
        messages=(*_system(body), *_messages(body.messages)),
        tools=tuple(map(_tool, body.tools)),
        options=options,
        format=_format(body),
        tool_choice="auto" if body.tool_choice is None else _CHOICES[body.tool_choice.type],
        forced_tool=_forced(body),
        parallel_tool_calls=not (body.tool_choice is not None and body.tool_choice.disable_parallel_tool_use),
    )
    thinking = given.get("thinking")
    hidden = isinstance(thinking, Mapping) and thinking.get("display") == "omitted"
    return Asked(chat, tuple(asked.notes), ignored, hidden)


def error(failure: MullError) -> dict[str, object]:
    """Return the body that tells of an error."""
    kind = _TYPES.get(failure.status, "api_error")
    text = failure.message if failure.hint is None else f"{failure.message} ({failure.hint})"
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": None}


def reply(
    events: Iterable[Event], model: str, reply_id: str = "", *, hide_thinking: bool = False
) -> dict[str, object]:
    """Join a whole reply into one message; reply_id: by which it can be told to stop thinking."""
    blocks: list[dict[str, object]] = []
    done: Done | None = None
    for event in events:
        if isinstance(event, Text | Reasoning):
            kind = "text" if isinstance(event, Text) else "thinking"
            if not blocks or blocks[-1]["type"] != kind:
                blocks.append({"type": kind, kind: ""})
            blocks[-1][kind] = f"{blocks[-1][kind]}{event.text}"
        elif isinstance(event, ToolCallEvent):
            call = event.call
            blocks.append(
                {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)}
            )
        elif isinstance(event, Done):
            done = event
    assert done is not None, "a reply without an end"
    for block in blocks:
        if block["type"] == "thinking":
            block["signature"] = signature(str(block["thinking"]))
            if hide_thinking:
                block["thinking"] = ""
    calls = any(block["type"] == "tool_use" for block in blocks)
    return {
        **_head(model, reply_id),
        "content": blocks,
        **_stop(done, calls=calls),
        "usage": _usage(done.usage),
        **extensions(done),
    }


class Chunks:
    """One reply as a stream of named events."""

    def __init__(
        self, model: str, reply_id: str = "", *, prompt_tokens: int = 0, hide_thinking: bool = False
    ) -> None:
        """Begin a reply; prompt_tokens: what its prompt takes, of which the end tells how many were cached."""
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._id = reply_id
        self._hide = hide_thinking
        self._index = -1
        self._open: str | None = None  # the type of the block under way
        self._thought: list[str] = []
        self._tools: dict[int, int] = {}  # our index of a call -> that of its block
        self._begun = False

    def feed(self, event: Event) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Return what an event becomes."""
        if not self._begun:
            self._begun = True
            head = {**_head(self._model, self._id), "content": [], "stop_reason": None, "stop_sequence": None}
            cost = Usage(prompt_tokens=self._prompt_tokens)
            yield _named("message_start", message={**head, "usage": _usage(cost)})
        if isinstance(event, Text):
            yield from self._piece(
                "text", {"type": "text", "text": ""}, {"type": "text_delta", "text": event.text}
            )
        elif isinstance(event, Reasoning):
            yield from self._think(event.text)
        elif isinstance(event, ToolCallBegin):
            yield from self._begin_tool(event.index, event.id, event.name)
        elif isinstance(event, ToolArguments):
            yield self._delta(
                {"type": "input_json_delta", "partial_json": event.text}, self._tools.get(event.index)
            )
        elif isinstance(event, ToolCallEvent):
            if event.index not in self._tools:
                yield from self._begin_tool(event.index, event.call.id or "", event.call.name)
                arguments = json.dumps(dict(event.call.arguments), ensure_ascii=False)
                yield self._delta({"type": "input_json_delta", "partial_json": arguments})
        elif isinstance(event, Done):
            yield from self._close()
            delta = _stop(event, calls=bool(self._tools))
            yield _named("message_delta", delta=delta, usage=_usage(event.usage), **extensions(event))
            yield _named("message_stop")

    def fail(self, failure: MullError) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Return what tells of an error after the beginning."""
        yield "error", error(failure)

    def _piece(
        self, kind: str, block: dict[str, object], delta: dict[str, object]
    ) -> Iterator[tuple[str, Mapping[str, object]]]:
        if self._open != kind:
            yield from self._begin(kind, block)
        yield self._delta(delta)

    def _think(self, text: str) -> Iterator[tuple[str, Mapping[str, object]]]:
        if self._open != "thinking":
            yield from self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        self._thought.append(text)
        if not self._hide:
            yield self._delta({"type": "thinking_delta", "thinking": text})

    def _begin_tool(self, index: int, call_id: str, name: str) -> Iterator[tuple[str, Mapping[str, object]]]:
        block = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
        yield from self._begin("tool_use", block)
        self._tools[index] = self._index

    def _begin(self, kind: str, block: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
        yield from self._close()
        self._index += 1
        self._open = kind
        yield _named("content_block_start", index=self._index, content_block=block)

    def _delta(
        self, delta: Mapping[str, object], index: int | None = None
    ) -> tuple[str, Mapping[str, object]]:
        return _named("content_block_delta", index=self._index if index is None else index, delta=delta)

    def _close(self) -> Iterator[tuple[str, Mapping[str, object]]]:
        if self._open == "thinking":
            sign = signature("".join(self._thought))
            self._thought.clear()
            yield self._delta({"type": "signature_delta", "signature": sign})
        if self._open is not None:
            yield _named("content_block_stop", index=self._index)
        self._open = None


def signature(thought: str) -> str:
    """Return what clients keep beside a thought and hand back: an HMAC of its text."""
    return base64.b64encode(
        hmac.new(_KEY, thought.encode("utf-8", "replace"), hashlib.sha256).digest()
    ).decode()


def _named(kind: str, **fields: object) -> tuple[str, Mapping[str, object]]:
    return kind, {"type": kind, **fields}


def _head(model: str, reply_id: str) -> dict[str, object]:
    return {
        "id": f"msg_{reply_id or secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": model,
    }


def _stop(done: Done, *, calls: bool) -> dict[str, object]:
    reason = "end_turn"
    if done.reason == "length":
        reason = "max_tokens"
    elif done.stop is not None:
        reason = "stop_sequence"
    elif calls:
        reason = "tool_use"
    return {"stop_reason": reason, "stop_sequence": done.stop}


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.thinking_tokens},
    }


def _own_options(body: CountBody) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return options by our own names, and the fields that mean nothing here."""
    extra = dict(body.model_extra or {})
    own: dict[str, object] = {
        name: read_option(name, extra.pop(name), name)
        for name in OPTIONS
        if extra.get(name) is not None and name not in ("stop", "logprobs")
    }
    inner = body.options if isinstance(body, MessagesBody) else None
    own |= {
        name: read_option(name, value, f"options.{name}")
        for name, value in (inner or {}).items()
        if name in (*OPTIONS, *THINK_OPTIONS) and value is not None
    }
    unknown = [f"options.{name}" for name in inner or {} if name not in (*OPTIONS, *THINK_OPTIONS)]
    ignored = [name for name in extra if name not in (*_HARMLESS, *THINK_OPTIONS)]
    return own, (*ignored, *unknown)


def _options(body: CountBody) -> dict[str, object]:
    if not isinstance(body, MessagesBody):
        return {}
    found: dict[str, object] = {
        "num_predict": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": None if body.stop_sequences is None else read_stops(body.stop_sequences, "stop_sequences"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _forced(body: CountBody) -> str | None:
    choice = body.tool_choice
    if choice is None or choice.type != "tool":
        return None
    if not choice.name:
        raise InvalidRequest("tool_choice.name says which tool", field="tool_choice.name")
    return choice.name


def _format(body: CountBody) -> Constraint | None:
    config = body.output_config or {}
    asked = body.output_format if body.output_format is not None else config.get("format")
    if asked is None:
        return None
    if not isinstance(asked, Mapping) or asked.get("type") != "json_schema":
        raise InvalidRequest(
            "a format must be {type: json_schema, schema: {…}}", field="output_config.format"
        )
    return parse_format(asked.get("schema"))


def _system(body: CountBody) -> tuple[Message, ...]:
    if not body.system:
        return ()
    text = (
        body.system
        if isinstance(body.system, str)
        else "\n".join(_text(part, "system") for part in body.system)
    )
    return (Message("system", text),)


def _tool(tool: Tool) -> Mapping[str, object]:
    if tool.type not in (None, "custom"):
        raise NotSupported(
            f"the tool {tool.type} is Anthropic's own; only custom tools work here", field="tools"
        )
    function: dict[str, object] = {"name": tool.name, "parameters": tool.input_schema or {"type": "object"}}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _messages(turns: list[Turn]) -> Iterator[Message]:
    names: dict[str, str] = {}
    for at, turn in enumerate(turns):
        where = f"messages.{at}.content"
        if isinstance(turn.content, str):
            yield Message(turn.role, turn.content)
        elif turn.role == "assistant":
            yield _assistant(turn.content, where, names)
        else:
            yield from _user(turn, where, names)


def _assistant(parts: list[Part], where: str, names: dict[str, str]) -> Message:
    texts, thoughts, calls = [], [], []
    for part in parts:
        if part.type == "tool_use":
            if not part.name:
                raise InvalidRequest("a tool_use block needs a name", field=where)
            calls.append(ToolCall(part.name, part.input or {}, part.id))
            names[part.id or ""] = part.name
        elif part.type == "thinking":
            thoughts.append(part.thinking or "")
        elif part.type != "redacted_thinking":  # nothing can be read of it
            texts.append(_text(part, where))
    return Message("assistant", "".join(texts), thinking="\n".join(thoughts) or None, tool_calls=tuple(calls))


def _user(turn: Turn, where: str, names: dict[str, str]) -> Iterator[Message]:
    """Yield the results of tools as messages of their own, then what the user says."""
    assert not isinstance(turn.content, str)
    texts = []
    for part in turn.content:
        if part.type != "tool_result":
            texts.append(_text(part, where))
            continue
        inner = part.content or ""
        text = inner if isinstance(inner, str) else "\n".join(_text(piece, where) for piece in inner)
        if part.is_error:
            text = f"error: {text}"
        yield Message(
            "tool", text, tool_call_id=part.tool_use_id, tool_name=names.get(part.tool_use_id or "")
        )
    if texts:
        yield Message(turn.role, "\n".join(texts))


def _text(part: Part, where: str) -> str:
    if part.type != "text":
        raise NotSupported(f"blocks of type {part.type!r} cannot be read: this model takes text", field=where)
    return part.text or ""
