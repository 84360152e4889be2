"""A conversation as OpenAI writes it, as our messages; and its tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...chat.message import Message, ToolCall
from ...chat.request import ToolChoice
from ...errors import InvalidRequest, NotSupported
from .openai_fields import Call, ChatMessage, Tool

_TEXTS = ("text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text")
_OTHERS = {
    "image_url": "images", "input_image": "images", "input_audio": "audio", "file": "files", "input_file": "files",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of a request, and whether they may or must be called."""

    tools: tuple[Mapping[str, object], ...] = ()
    choice: ToolChoice = "auto"
    forced: str | None = None


def read_messages(messages: Sequence[ChatMessage], ignored: list[str]) -> tuple[Message, ...]:
    """Translate a conversation; names of fields without effect are added to `ignored`."""
    names: dict[str, str] = {}
    found = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        calls = _calls(message, where)
        names |= {call.id: call.name for call in calls if call.id is not None}
        extra = message.extra("messages.")
        ignored += [name for name in dict.fromkeys(extra) if name not in ignored]
        content = read_content(message.content, f"{where}.content")
        found.append(
            Message(
                "system" if message.role == "developer" else message.role,
                content or (message.refusal or ""),
                thinking=_thought(message),
                tool_calls=calls,
                tool_name=names.get(message.tool_call_id or "") if message.role == "tool" else None,
                tool_call_id=message.tool_call_id if message.role == "tool" else None,
            )
        )
    return tuple(found)


def read_content(content: object, where: str) -> str:
    """Return the text of a message: text itself, or the texts of its parts, a line each."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise InvalidRequest(f"{where} must be a text or a list of parts", field=where)
    return "\n".join(_part(part, f"{where}[{number}]") for number, part in enumerate(content))


def read_arguments(arguments: object, where: str) -> Mapping[str, object]:
    """Return a call's arguments, which are sent as JSON text; raises InvalidRequest for what is no object."""
    if arguments is None or arguments == "":
        return {}
    if isinstance(arguments, Mapping):
        return arguments
    try:
        value = json.loads(str(arguments))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where} is not valid JSON: {error}", field=where) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} must be a JSON object", field=where)
    return value


def read_tools(tools: Iterable[Tool], choice: object) -> Tools:
    """Translate tools and tool_choice; raises InvalidRequest for a choice that no tool satisfies."""
    known = [_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]
    return choose(known, choice)


def choose(tools: Sequence[Mapping[str, object]], choice: object) -> Tools:
    """Return tools and which of them may be called: auto, none, required, one by name, or some of them."""
    if choice is None or choice == "auto":
        return Tools(tuple(tools))
    if choice == "none":
        return Tools(tuple(tools), "none")
    if choice == "required":
        if not tools:
            raise InvalidRequest("tool_choice is required, but there are no tools", field="tool_choice")
        return Tools(tuple(tools), "required")
    if not isinstance(choice, Mapping):
        raise InvalidRequest(
            f"tool_choice must be auto, none, required or name a function, not {str(choice)[:60]!r}",
            field="tool_choice",
        )
    if choice.get("type") == "allowed_tools":
        return _allowed(tools, choice)
    name = _named(choice)
    if name not in _names(tools):
        raise InvalidRequest(f"tool_choice names {name!r}, which is none of the tools", field="tool_choice")
    return Tools(tuple(tools), "required", name)


def _allowed(tools: Sequence[Mapping[str, object]], choice: Mapping[str, object]) -> Tools:
    """Read `allowed_tools`, in the form of either endpoint."""
    inner = choice.get("allowed_tools")
    inner = inner if isinstance(inner, Mapping) else choice
    listed, mode = inner.get("tools"), inner.get("mode", "auto")
    if not isinstance(listed, list) or mode not in ("auto", "required"):
        raise InvalidRequest("allowed_tools needs a mode, auto or required, and tools", field="tool_choice")
    wanted = [_named(one) if isinstance(one, Mapping) else "" for one in listed]
    unknown = [name for name in wanted if name not in _names(tools)]
    if unknown:
        raise InvalidRequest(
            f"tool_choice allows {unknown[0]!r}, which is none of the tools", field="tool_choice"
        )
    return choose([tool for tool in tools if _name(tool) in wanted], mode)


def _named(choice: Mapping[str, object]) -> str:
    """Return the function's name in `{type, function: {name}}` or `{type, name}`."""
    if choice.get("type", "function") != "function":
        raise NotSupported(f"tools of type {choice.get('type')!r} cannot be called here", field="tool_choice")
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    if not isinstance(name, str):
        raise InvalidRequest("tool_choice needs the name of a function", field="tool_choice")
    return name


def _name(tool: Mapping[str, object]) -> object:
    function = tool["function"]
    return function.get("name") if isinstance(function, Mapping) else None


def _names(tools: Sequence[Mapping[str, object]]) -> set[object]:
    return {_name(tool) for tool in tools}


def _tool(tool: Tool, where: str) -> Mapping[str, object]:
    if tool.type != "function":
        raise NotSupported(
            f"tools of type {tool.type!r} cannot be called here, only functions", field=f"{where}.type"
        )
    if tool.function is None:
        raise InvalidRequest(f"{where}.function is missing", field=f"{where}.function")
    return {"type": "function", "function": tool.function.given()}


def _calls(message: ChatMessage, where: str) -> tuple[ToolCall, ...]:
    calls: Sequence[Call] = message.tool_calls or ()
    if calls and message.role != "assistant":
        raise InvalidRequest(
            f"only an assistant calls tools, not the {message.role}", field=f"{where}.tool_calls"
        )
    return tuple(
        ToolCall(
            call.function.name,
            read_arguments(call.function.arguments, f"{where}.tool_calls[{number}].function.arguments"),
            call.id,
        )
        for number, call in enumerate(calls)
    )


def _thought(message: ChatMessage) -> str | None:
    """Return what an assistant's turn was thought, by either name; other roles do not think."""
    return (message.reasoning_content or message.reasoning) if message.role == "assistant" else None


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise InvalidRequest(f"{where} must be an object", field=where)
    kind = part.get("type", "text")
    if isinstance(kind, str) and kind in _OTHERS:
        raise NotSupported(f"this model takes text only, no {_OTHERS[kind]}", field=where)
    if not isinstance(kind, str) or kind not in _TEXTS:
        raise InvalidRequest(f"{where}.type must be text, not {str(kind)[:60]!r}", field=f"{where}.type")
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        raise InvalidRequest(f"{where}.text must be a text", field=f"{where}.text")
    return text
