"""/v1/responses: its items as our messages, its fields as our requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...chat.message import Message, ToolCall
from ...chat.request import ChatRequest
from ...errors import InvalidRequest, NotSupported
from ...runtime.grammar.constraint import Constraint
from .openai_messages import choose, read_arguments, read_content
from .openai_options import Common, check_options, read_common, schema_format
from .responses_fields import FlatTool, ResponsesBody

_LOGPROBS = "message.output_text.logprobs"
_UNSUPPORTED = ("conversation", "prompt")
_SUMMARIES = ("auto", "concise", "detailed")
# They say nothing about the answer, and come back in the reply.
_ECHOED = ("user", "safety_identifier", "prompt_cache_key", "service_tier", "max_tool_calls")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, what it says beside the conversation, and the conversation as it can be continued later.

    echo: what the reply repeats of it; summarizes: thoughts go where their summary would; wants_logprobs: they were
    asked for.
    """

    chat: ChatRequest
    common: Common
    conversation: tuple[Message, ...]
    echo: Mapping[str, object]
    summarizes: bool = False
    wants_logprobs: bool = False


def request(body: ResponsesBody, reply_id: str, before: tuple[Message, ...] = ()) -> Asked:
    """Translate a request; `before` is the conversation that it continues. Raises InvalidRequest."""
    common = read_common(body)
    _refuse(body)
    if body.max_output_tokens is not None:
        common.options["num_predict"] = body.max_output_tokens
    wants_logprobs = body.top_logprobs is not None or _LOGPROBS in (body.include or ())
    if wants_logprobs:
        common.options["logprobs"] = body.top_logprobs or 0
    check_options(common.options)
    tools = choose(
        [_tool(tool, f"tools[{at}]") for at, tool in enumerate(body.tools or ())], body.tool_choice
    )
    conversation = (*before, *read_input(body.input, before))
    first = (Message("system", body.instructions),) if body.instructions else ()
    chat = ChatRequest(
        messages=(*first, *conversation),
        tools=tools.tools,
        options=common.options,
        id=reply_id,
        format=_format(body),
        tool_choice=tools.choice,
        forced_tool=tools.forced,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        overflow=common.overflow or ("oldest" if body.truncation == "auto" else None),
    )
    reasoning = (body.model_extra or {}).get("reasoning")
    summary = (
        reasoning.get("summary") or reasoning.get("generate_summary") if isinstance(reasoning, dict) else None
    )
    if summary is not None and summary not in _SUMMARIES:
        raise InvalidRequest("reasoning.summary must be auto, concise or detailed", field="reasoning.summary")
    common.ignored = [name for name in common.ignored if name not in _ECHOED]
    return Asked(chat, common, conversation, _echo(body), summary is not None, wants_logprobs)


def read_input(
    given: str | Sequence[Mapping[str, object]], before: Sequence[Message] = ()
) -> tuple[Message, ...]:
    """Translate the input: one text of the user's, or the items of a conversation, which continues another."""
    if isinstance(given, str):
        return (Message("user", given),)
    calls = (call for message in before for call in message.tool_calls)
    turns = _Turns(names={call.id: call.name for call in calls if call.id is not None})
    for number, item in enumerate(given):
        turns.add(item, f"input[{number}]")
    turns.flush()
    return tuple(turns.messages)


@dataclass(slots=True)
class _Turns:
    """Messages so far, and the assistant's turn under way: its thought, text and calls are items of their own."""

    messages: list[Message] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def add(self, item: Mapping[str, object], where: str) -> None:
        """Take the next item."""
        kind = item.get("type") or "message"
        if kind == "message":
            self._message(item, where)
        elif kind == "reasoning":
            if self.text or self.calls:
                self.flush()
            self.thought.append(_thought(item, where))
        elif kind == "function_call":
            self._call(item, where)
        elif kind == "function_call_output":
            self.flush()
            call_id = _text(item, "call_id", where)
            output = read_content(item.get("output"), f"{where}.output")
            self.messages.append(
                Message("tool", output, tool_call_id=call_id, tool_name=self.names.get(call_id))
            )
        else:
            raise NotSupported(f"items of type {str(kind)[:60]!r} cannot be read here", field=f"{where}.type")

    def flush(self) -> None:
        """End the assistant's turn, if one is under way."""
        if self.thought or self.text or self.calls:
            thought = "\n".join(self.thought) or None
            content = "\n".join(self.text)
            self.messages.append(
                Message("assistant", content, thinking=thought, tool_calls=tuple(self.calls))
            )
        self.thought, self.text, self.calls = [], [], []

    def _message(self, item: Mapping[str, object], where: str) -> None:
        role = item.get("role")
        content = read_content(item.get("content"), f"{where}.content")
        if role == "assistant":
            if self.text or self.calls:
                self.flush()
            self.text.append(content)
            return
        self.flush()
        if role in ("system", "developer"):
            self.messages.append(Message("system", content))
        elif role == "user":
            self.messages.append(Message("user", content))
        else:
            raise InvalidRequest(
                f"{where}.role must be user, assistant, system or developer", field=f"{where}.role"
            )

    def _call(self, item: Mapping[str, object], where: str) -> None:
        call_id, name = _text(item, "call_id", where), _text(item, "name", where)
        self.names[call_id] = name
        arguments = read_arguments(item.get("arguments"), f"{where}.arguments")
        self.calls.append(ToolCall(name, arguments, call_id))


def _thought(item: Mapping[str, object], where: str) -> str:
    """Return the text of a thought, or else its summary."""
    return read_content(item.get("content"), f"{where}.content") or read_content(
        item.get("summary"), f"{where}.summary"
    )


def _text(item: Mapping[str, object], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{where}.{name} must be a text", field=f"{where}.{name}")
    return value


def _tool(tool: FlatTool, where: str) -> Mapping[str, object]:
    if tool.type != "function":
        raise NotSupported(
            f"the tool {tool.type!r} is OpenAI's own; only functions work here", field=f"{where}.type"
        )
    if not tool.name:
        raise InvalidRequest(f"{where}.name is missing", field=f"{where}.name")
    return {"type": "function", "function": {k: v for k, v in tool.given().items() if k != "type"}}


def _format(body: ResponsesBody) -> Constraint | None:
    form = None if body.text is None else body.text.format
    if form is None or form.type == "text":
        return None
    return (
        Constraint("json")
        if form.type == "json_object"
        else schema_format(form.schema_, "text.format.schema")
    )


def _refuse(body: ResponsesBody) -> None:
    """Raise NotSupported for what would change the answer and cannot be done."""
    extra = body.model_extra or {}
    for name in _UNSUPPORTED:
        if extra.get(name):
            raise NotSupported(f"{name} is not supported: send the conversation as input", field=name)
    if body.background:
        raise NotSupported(
            "background is not supported: responses are sent as they are made", field="background"
        )


def _echo(body: ResponsesBody) -> Mapping[str, object]:
    """Return what a response repeats of its request."""
    extra = body.model_extra or {}
    reasoning = extra.get("reasoning")
    given = reasoning if isinstance(reasoning, Mapping) else {}
    form = body.text.format if body.text is not None and body.text.format is not None else None
    return {
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": given.get("effort"), "summary": given.get("summary")},
        "store": body.store is not False,
        "temperature": body.temperature,
        "text": {
            "format": {"type": "text"} if form is None else form.model_dump(by_alias=True, exclude_none=True)
        },
        "tool_choice": body.tool_choice or "auto",
        "tools": [tool.model_dump() for tool in body.tools or ()],
        "top_p": body.top_p,
        "top_logprobs": body.top_logprobs,
        "truncation": body.truncation or "disabled",
        "metadata": body.metadata or {},
        **{name: extra[name] for name in _ECHOED if name in extra},
    }
