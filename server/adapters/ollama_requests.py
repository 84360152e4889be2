"""Ollama's /api/generate and /api/chat as our requests; what has no effect here, and what was decided."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...chat.message import Message, ToolCall
from ...chat.options import OPTIONS
from ...chat.request import ChatRequest, Overflow
from ...chat.thinking import THINK_OPTIONS
from ...chat.thinking_fields import from_ollama
from ...errors import InvalidName, InvalidRequest, NotSupported
from ...registry.name import ModelName
from ...runtime.grammar.constraint import Constraint, parse_format
from ..keep_alive import parse_keep_alive
from .ollama_fields import AskBody, Call, ChatBody, GenerateBody, Turn
from .option_values import read_option

_MOST_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and what to tell its sender of it.

    chat: None where the model is only to be loaded, or with keep_alive 0 unloaded; num_ctx: the least context;
    suffix: what a raw prompt's continuation is to lead to.
    """

    model: str
    chat: ChatRequest | None
    num_ctx: int | None = None
    keep_alive: float | None = None
    suffix: str | None = None
    notes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def full_name(model: str) -> str:
    """Return a name with all its parts, as Ollama's errors have it; a file's as it is. Raises InvalidRequest."""
    if not model:
        raise InvalidRequest("model is required", field="model")
    try:
        return ModelName.parse(model).full()
    except InvalidName:
        return model


def generate(body: GenerateBody) -> Asked:
    """Translate /api/generate. Raises InvalidRequest that names the field."""
    ask = _Ask(body)
    if body.raw and (body.template or body.system or body.context):
        raise InvalidRequest("raw mode does not support template, system, or context", field="raw")
    ask.refuse_images(body.images)
    prompt = body.prompt or ""
    if body.suffix:
        return ask.done(ask.request(raw=prompt), suffix=body.suffix)
    if not prompt:
        return ask.done(None)
    if body.raw:
        return ask.done(ask.request(raw=prompt))
    system = (Message("system", body.system),) if body.system else ()
    messages = (*system, Message("user", prompt))
    context = tuple(body.context or ())
    return ask.done(ask.request(messages, context=context, template=body.template or None))


def chat(body: ChatBody) -> Asked:
    """Translate /api/chat. Raises InvalidRequest that names the field."""
    ask = _Ask(body)
    turns = body.messages or []
    for number, turn in enumerate(turns):
        ask.refuse_images(turn.images)
        ask.ignored += [f"messages[{number}].{name}" for name in turn.unknown()]
    messages = read_turns(turns)
    return ask.done(ask.request(messages, tools=tuple(body.tools or ())) if messages else None)


def read_turns(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """Translate messages; a tool's result that names only its call gets the tool's name. Raises InvalidRequest."""
    names: dict[str, str] = {}
    messages = []
    for turn in turns:
        calls = tuple(map(_call, turn.tool_calls or ()))
        names.update({call.id: call.name for call in calls if call.id})
        is_tool = turn.role == "tool"
        tool_name = turn.tool_name or names.get(turn.tool_call_id or "")
        messages.append(
            Message(
                turn.role,  # type: ignore[arg-type]  # Message says what is wrong with it
                turn.content or "",
                thinking=turn.thinking or None,
                tool_calls=calls,
                tool_name=tool_name if is_tool else None,
                tool_call_id=turn.tool_call_id if is_tool else None,
            )
        )
    return tuple(messages)


class _Ask:
    """What both endpoints read in the same way."""

    def __init__(self, body: AskBody) -> None:
        self.body = body
        self.name = full_name(body.model)
        given = body.options or {}
        thinking = from_ollama({**(body.model_extra or {}), "think": body.think, "options": given})
        self.notes = tuple(thinking.notes)
        self.ignored = body.unknown()
        self.num_ctx: int | None = None
        self.options = {**self._own(given), **thinking.options}
        self.overflow = self._overflow()
        self.format = self._format()
        self._ask_logprobs()

    def request(
        self,
        messages: tuple[Message, ...] = (),
        *,
        raw: str | None = None,
        tools: tuple[Mapping[str, object], ...] = (),
        context: tuple[int, ...] = (),
        template: str | None = None,
    ) -> ChatRequest:
        """Return the request for these messages or this prompt."""
        return ChatRequest(
            messages,
            tools,
            options=self.options,
            raw=raw,
            format=self.format,
            overflow=self.overflow,
            context=context,
            template=template,
        )

    def done(self, request: ChatRequest | None, *, suffix: str | None = None) -> Asked:
        """Return everything that was read."""
        return Asked(
            self.body.model,
            request,
            self.num_ctx,
            parse_keep_alive(self.body.keep_alive),
            suffix,
            self.notes,
            tuple(self.ignored),
        )

    def refuse_images(self, images: object) -> None:
        """Raise NotSupported if there are any."""
        if images:
            raise NotSupported(f"{self.name} does not support vision", field="images")

    def _own(self, given: Mapping[str, object]) -> dict[str, object]:
        """Return the options that we know; num_ctx is one of loading."""
        found: dict[str, object] = {}
        for name, value in given.items():
            if name in THINK_OPTIONS or value is None:
                continue
            if name in OPTIONS:
                found[name] = read_option(name, value, f"options.{name}")
            elif name == "num_ctx":
                self.num_ctx = _num_ctx(value)
            else:
                self.ignored.append(f"options.{name}")
        return found

    def _overflow(self) -> Overflow | None:
        """Return what becomes of a conversation that is too long, if the request says.

        Ollama drops old messages unless it is told not to; we tell of it, and do so only where it is asked for.
        """
        if self.body.truncate is not None:
            return "oldest" if self.body.truncate else "error"
        return "oldest" if self.body.shift else None

    def _format(self) -> Constraint | None:
        return parse_format(self.body.format) if self.body.format not in (None, "") else None

    def _ask_logprobs(self) -> None:
        count = self.body.top_logprobs or 0
        if not 0 <= count <= _MOST_LOGPROBS:
            raise InvalidRequest(f"top_logprobs must be between 0 and {_MOST_LOGPROBS}", field="top_logprobs")
        if self.body.logprobs:
            self.options["logprobs"] = count
        elif count:
            self.ignored.append("top_logprobs")


def _num_ctx(value: object) -> int | None:
    """Return the context that is asked for; 0 leaves it to the model."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequest(f"num_ctx must be a number of tokens, not {value!r}", field="options.num_ctx")
    return value or None


def _call(call: Call) -> ToolCall:
    """Read a tool call of an earlier answer."""
    function, arguments = call.function, call.function.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise InvalidRequest(
                f"the arguments of tool call {function.name!r} are no JSON", field="tool_calls"
            ) from None
    return ToolCall(function.name, arguments, call.id)
