"""Tools in a conversation: what a template is given of calls and results, and what it cannot say of them as text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..errors import InvalidRequest
from .message import Message, ToolCall
from .request import ChatRequest
from .template import Template
from .tool_calls.calls import offered
from .tool_calls.json_calls import HERMES
from .tool_calls.syntax import Syntax

_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TOLD = """You can call functions. These are their descriptions, one JSON object a line:
<tools>
{tools}
</tools>

To call functions, write nothing but the calls, in exactly this form:
{example}
Several calls follow one another. What a function returns comes back between <tool_response> and </tool_response>. \
If no function helps, answer in plain text."""


def checked(request: ChatRequest) -> ChatRequest:
    """Return a request without the tools that it says must not be called; raises InvalidRequest for a choice of none.

    A choice of one tool leaves the others offered: the model is held to the one by its grammar.
    """
    if request.tool_choice == "none":
        return replace(request, tools=()) if request.tools else request
    names = [name for name, _ in map(offered, request.tools)]
    if not all(names):
        raise InvalidRequest("each tool needs the name of a function", field="tools")
    if request.forced_tool is not None and request.forced_tool not in names:
        raise InvalidRequest(
            f"tool_choice names {request.forced_tool!r}, which is none of the tools", field="tool_choice"
        )
    if request.tool_choice == "required" and not names:
        raise InvalidRequest("tool_choice wants a call, but there are no tools", field="tool_choice")
    return request


def is_forced(request: ChatRequest) -> bool:
    """Tell whether a reply must be a call."""
    forced = request.forced_tool is not None or request.tool_choice == "required"
    return forced and bool(request.tools) and request.tool_choice != "none"


def fitted(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, object]],
    template: Template,
    syntax: Syntax | None,
) -> tuple[list[Message], Sequence[Mapping[str, object]]]:
    """Return messages and tools in a form that comes through a template.

    What a template does not write of tools, calls or results becomes text.
    """
    made = linked(messages)
    if any(message.role == "tool" or message.tool_calls for message in made):
        if template.wants_short_ids:
            made = [_with_short_ids(message) for message in made]
        if template.num_calls == 0:
            made = [_calls_as_text(message, syntax or HERMES) for message in made]
        elif template.num_calls == 1:
            made = _one_by_one(made)
        if not template.takes_results:
            made = _results_as_text(made)
    if tools and not template.takes_tools:
        return _told(made, tools, syntax or HERMES), ()
    return made, tools


def linked(messages: Sequence[Message]) -> list[Message]:
    """Give every call an id, and every result the id and the name of the call that it answers.

    A result is its call's by its id, else by its name, else in order; one without a call stays as it is.
    """
    waiting: list[ToolCall] = []
    known: dict[str, ToolCall] = {}
    made = []
    for message in messages:
        if message.tool_calls:
            waiting = []
            for call in message.tool_calls:
                waiting.append(call if call.id else replace(call, id=f"call{len(known):05d}"))
                known[waiting[-1].id or ""] = waiting[-1]
            message = replace(message, tool_calls=tuple(waiting))
        elif message.role == "tool":
            found = _answered(message, waiting, known)
            if found is not None:
                waiting = [call for call in waiting if call is not found]
                name = message.tool_name or found.name
                message = replace(message, tool_name=name, tool_call_id=message.tool_call_id or found.id)
        made.append(message)
    return made


def _answered(
    message: Message, waiting: Sequence[ToolCall], known: Mapping[str, ToolCall]
) -> ToolCall | None:
    if message.tool_call_id is not None:
        return known.get(message.tool_call_id)
    if message.tool_name is not None:
        return next((call for call in waiting if call.name == message.tool_name), None)
    return waiting[0] if waiting else None


def _with_short_ids(message: Message) -> Message:
    calls = tuple(replace(call, id=_short(call.id)) for call in message.tool_calls)
    return replace(message, tool_calls=calls, tool_call_id=_short(message.tool_call_id))


def _short(call_id: str | None) -> str | None:
    """Return an id of nine letters and digits, always the same for the same id."""
    if call_id is None or _SHORT_ID.fullmatch(call_id):
        return call_id
    number = int.from_bytes(hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return "".join(_LETTERS[number // 36**place % 36] for place in range(9))


def _one_by_one(messages: Sequence[Message]) -> list[Message]:
    """Put every call into a message of its own, followed by its result, for templates that know only one."""
    made: list[Message] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if len(message.tool_calls) < 2:
            made.append(message)
            continue
        results = []
        while at < len(messages) and messages[at].role == "tool":
            results.append(messages[at])
            at += 1
        for index, call in enumerate(message.tool_calls):
            made.append(
                replace(message, tool_calls=(call,))
                if not index
                else Message("assistant", tool_calls=(call,))
            )
            own = [result for result in results if result.tool_call_id == call.id]
            made += own
            results = [result for result in results if result not in own]
        made += results
    return made


def _calls_as_text(message: Message, syntax: Syntax) -> Message:
    if not message.tool_calls:
        return message
    text = syntax.text(message.tool_calls) or HERMES.text(message.tool_calls) or ""
    return replace(message, content="\n".join(filter(None, (message.content, text))), tool_calls=())


def _results_as_text(messages: Sequence[Message]) -> list[Message]:
    """Turn results into a user's messages; neighbours become one, for templates that take turns."""
    made: list[Message] = []
    for message in messages:
        is_result = message.role == "tool"
        if is_result:
            named: dict[str, object] = {"name": message.tool_name} if message.tool_name else {}
            content = json.dumps({**named, "content": message.content}, ensure_ascii=False)
            message = Message("user", f"<tool_response>\n{content}\n</tool_response>")
        if (
            message.role == "user"
            and made
            and made[-1].role == "user"
            and (is_result or _is_result(made[-1]))
        ):
            made[-1] = replace(made[-1], content=f"{made[-1].content}\n{message.content}")
        else:
            made.append(message)
    return made


def _is_result(message: Message) -> bool:
    return message.content.startswith("<tool_response>")


def _told(
    messages: Sequence[Message], tools: Sequence[Mapping[str, object]], syntax: Syntax
) -> list[Message]:
    """Describe the tools in the system message."""
    example = (ToolCall("function_name", {"argument": "value"}),)
    text = _TOLD.format(
        tools="\n".join(json.dumps(tool, ensure_ascii=False, default=str) for tool in tools),
        example=syntax.text(example) or HERMES.text(example),
    )
    if messages and messages[0].role == "system":
        first = messages[0]
        return [replace(first, content=f"{first.content}\n\n{text}".strip()), *messages[1:]]
    return [Message("system", text), *messages]
