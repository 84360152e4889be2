"""Calls as Python writes them: `[f(a='x', b=3), g()]`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from ..message import ToolCall
from .calls import Calls
from .json_text import next_member
from .reader import BadCall, Reader, Step
from .syntax import Frame, Rules, Syntax, listed
from .tagged import Arguments
from .types import TEXT, Schema, argument, typed

_LONGEST_VALUE = 200_000
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


def _read_calls(reader: Reader, calls: Calls, close: str) -> Step[None]:
    yield from reader.space()
    if (yield from reader.optional("[")):
        is_first = True
        while (yield from next_member(reader, "]", is_first=is_first)):
            yield from _read_call(reader, calls)
            is_first = False
        if is_first:
            raise BadCall("there is no call")
    else:
        yield from _read_call(reader, calls)
        yield from reader.space()
        while (char := (yield from reader.peek())).isalpha() or char == "_":
            yield from _read_call(reader, calls)
            yield from reader.space()
    yield from reader.space()
    yield from reader.optional(close)


def _read_call(reader: Reader, calls: Calls) -> Step[None]:
    name = (yield from reader.until("(")).strip()
    if not name.replace(".", "_").replace("-", "_").isidentifier():
        raise BadCall("the name of the function is missing")
    calls.begin(name)
    arguments = Arguments(calls, name)
    is_first = True
    while (yield from next_member(reader, ")", is_first=is_first)):
        key = (yield from reader.until("=")).strip()
        if not key.isidentifier():
            raise BadCall("an argument has no name")
        types = arguments.key(key)
        text = yield from _value(reader)
        is_quoted = text[:1] in ("'", '"')
        arguments.value(_unquoted(text) if is_quoted else typed(text, None if types == TEXT else types))
        is_first = False
    arguments.end()


def _value(reader: Reader) -> Step[str]:
    """Read a value up to the comma or bracket after it, which stays."""
    length, quote, is_escaped = 0, "", False
    open_brackets: list[str] = []
    while True:
        if not (yield from reader.have(length + 1)):
            raise BadCall("it is cut off")
        if length > _LONGEST_VALUE:
            raise BadCall("an argument is too long")
        char = reader.text[reader.at + length]
        if quote:
            quote = "" if char == quote and not is_escaped else quote
            is_escaped = char == "\\" and not is_escaped
        elif char in "'\"":
            quote = char
        elif char in _BRACKETS:
            open_brackets.append(_BRACKETS[char])
        elif open_brackets and char == open_brackets[-1]:
            open_brackets.pop()
        elif not open_brackets and char in ",)":
            text = reader.text[reader.at : reader.at + length].strip()
            reader.at += length
            return text
        length += 1


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\n": ""}


def _unquoted(text: str) -> str:
    """Return what stands between quotes; raises BadCall where more than one text does."""
    quote, pieces, at = text[0], list[str](), 1
    while at < len(text) - 1:
        if text[at] == "\\":
            after = text[at + 1]
            pieces.append(_ESCAPES.get(after, after if after in "\\'\"" else f"\\{after}"))
            at += 2
        elif text[at] == quote:
            break
        else:
            pieces.append(text[at])
            at += 1
    if at != len(text) - 1 or text[at] != quote:
        raise BadCall("an argument is no value")
    return "".join(pieces)


def _write(rules: Rules, tool: str, schema: Schema) -> str:
    """Return the expression of one call, its values written as JSON, which reads the same."""
    properties, required = schema.get("properties"), schema.get("required")
    needed = required if isinstance(required, list) else []
    keys = [str(key) for key in properties] if isinstance(properties, Mapping) else []
    parts = {
        key: f"{rules.text(f'{key}=')} {rules.json(argument(schema, key), schema)}"
        for key in keys
        if key.isidentifier()
    }
    must = [part for key, part in parts.items() if key in needed]
    may = [part for key, part in parts.items() if key not in needed]
    return f"{rules.text(f'{tool}(')} {listed(must, may, rules.text(', '))} {rules.text(')')}"


def _show(call: ToolCall) -> str:
    values = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in call.arguments.items())
    return f"{call.name}({', '.join(values)})"


def _reader(close: str) -> Callable[[Reader, Calls, str], Step[None]]:
    def read(reader: Reader, calls: Calls, opened: str) -> Step[None]:
        return _read_calls(reader, calls, close)

    return read


LFM2 = Syntax(
    "lfm2",
    ("<|tool_call_start|>",),
    _reader("<|tool_call_end|>"),
    frame=Frame("<|tool_call_start|>[", ", ", "]<|tool_call_end|>"),
    write=_write,
    show=_show,
)
TOOL_CODE = Syntax(
    "tool-code",
    ("```tool_code\n",),
    _reader("```"),
    frame=Frame("```tool_code\n", "\n", "\n```"),
    write=_write,
    show=_show,
)
