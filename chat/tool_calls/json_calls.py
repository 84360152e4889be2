"""Calls that are JSON objects with a name and arguments: alone, several in a row, or in a list."""

from __future__ import annotations

from collections.abc import Callable

from .calls import Calls
from .json_text import next_member, parsed, read_key, read_value
from .reader import BadCall, Reader, Step
from .syntax import Frame, Syntax

_NAMES = ("name", "tool_name", "function")
_ARGUMENTS = ("arguments", "parameters", "input")
_BETWEEN = (";", ",")
_EXTRA = "]}"


def read_calls(
    reader: Reader, calls: Calls, closes: tuple[str, ...] = (), *, is_bare: bool = False
) -> Step[None]:
    """Read one call, several, or a list of them, and what closes them if it comes.

    is_bare: nothing but its form says that this is a call: its name comes first, and is that of a tool.
    """
    yield from reader.space()
    if not is_bare and (yield from reader.optional("[")):
        is_first = True
        while (yield from next_member(reader, "]", is_first=is_first)):
            yield from _read_call(reader, calls, closes)
            is_first = False
        if is_first:
            raise BadCall("there is no call")
    else:
        yield from _read_call(reader, calls, closes, is_bare=is_bare)
        yield from reader.space()
        while (yield from _another(reader)):
            yield from _read_call(reader, calls, closes, is_bare=is_bare)
            yield from reader.space()
    if closes:
        yield from reader.space()
        # Some models close one bracket too many.
        while (char := (yield from reader.peek())) and (char in _EXTRA or char.isspace()):
            reader.at += 1
        yield from reader.optional(*closes)


def _another(reader: Reader) -> Step[bool]:
    """Tell whether another object follows, and read what stands between."""
    between = yield from reader.looking(*_BETWEEN)
    if between is not None:
        length = len(between)
        while (yield from reader.have(length + 1)) and reader.text[reader.at + length].isspace():
            length += 1
        if not reader.text.startswith("{", reader.at + length):
            return False
        reader.at += length
    return (yield from reader.looking("{")) is not None


class _Call:
    """One call in the making: its name and its arguments come in any order."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.name = ""
        self.id: str | None = None
        self.has_begun = False
        self.has_arguments = False
        self._held: list[str] = []

    def begin(self) -> None:
        """Say that the call begins, if that is known."""
        if self.name and not self.has_begun:
            self.has_begun = True
            self._calls.begin(self.name, self.id)
            for piece in self._held:
                self._calls.arguments(piece)

    def arguments(self, text: str) -> None:
        """Take a piece of the arguments."""
        if self.has_begun:
            self._calls.arguments(text)
        else:
            self._held.append(text)

    def end(self) -> None:
        """End the call."""
        if not self.name:
            raise BadCall("the name of the function is missing")
        self.begin()
        self._calls.end()


def _read_call(reader: Reader, calls: Calls, closes: tuple[str, ...], *, is_bare: bool = False) -> Step[None]:
    call = _Call(calls)
    yield from reader.expect("{")
    is_first = True
    while (yield from _next_key(reader, closes, is_first=is_first)):
        key = yield from read_key(reader)
        yield from reader.space()
        yield from reader.expect(":")
        yield from reader.space()
        yield from _read_member(reader, call, key)
        is_known = call.name in calls.schemas
        if is_bare and not is_known and key not in ("type", "id"):
            raise BadCall("this is no call of a tool")
        if not is_bare:
            call.begin()
        is_first = False
    if is_bare and not call.has_arguments:
        raise BadCall("this is no call of a tool")
    call.end()


def _next_key(reader: Reader, closes: tuple[str, ...], *, is_first: bool) -> Step[bool]:
    """Read up to the next key; a call that is closed before its last bracket is whole all the same."""
    yield from reader.space()
    if closes and not is_first and (yield from reader.looking(*closes)):
        return False
    return (yield from next_member(reader, "}", is_first=is_first))


def _read_member(reader: Reader, call: _Call, key: str) -> Step[None]:
    char = yield from reader.peek()
    if key in _NAMES and char == '"' and not call.name:
        call.name = yield from read_key(reader)
    elif key == "function" and char == "{":
        yield from _read_inner(reader, call)
    elif key == "arguments" or (key in _ARGUMENTS and not call.has_arguments):
        if call.has_arguments:
            raise BadCall("it has arguments twice")
        call.has_arguments = True
        call.begin()
        yield from _read_arguments(reader, call)
    else:
        yield from read_value(reader, lambda piece: None)


def _read_inner(reader: Reader, call: _Call) -> Step[None]:
    """Read what OpenAI's form of a call has within."""
    yield from reader.expect("{")
    is_first = True
    while (yield from next_member(reader, "}", is_first=is_first)):
        key = yield from read_key(reader)
        yield from reader.space()
        yield from reader.expect(":")
        yield from reader.space()
        yield from _read_member(reader, call, key)
        is_first = False


def _read_arguments(reader: Reader, call: _Call) -> Step[None]:
    char = yield from reader.peek()
    if char == "{":
        yield from read_value(reader, call.arguments)
    elif char == '"':
        text = yield from read_key(reader)
        inner = Reader(text.strip() or "{}")
        inner.ended = True
        pieces: list[str] = []
        yield from read_value(inner, pieces.append)
        if not inner.is_over:
            raise BadCall("the arguments are no JSON")
        call.arguments("".join(pieces))
    else:
        pieces = []
        yield from read_value(reader, pieces.append)
        if parsed("".join(pieces)) is not None:
            raise BadCall("the arguments are no object")
        call.arguments("{}")


def read_arguments(reader: Reader, calls: Calls) -> Step[None]:
    """Read the arguments of a call that has begun, and end it."""
    yield from reader.space()
    if (yield from reader.looking("{", "null")) is None:
        raise BadCall("it is cut off" if reader.is_over else "the arguments are no object")
    if not (yield from reader.optional("null")):
        yield from read_value(reader, calls.arguments)
    calls.end()


def _closed(*closes: str) -> Callable[[Reader, Calls, str], Step[None]]:
    def read(reader: Reader, calls: Calls, opened: str) -> Step[None]:
        return read_calls(reader, calls, closes, is_bare=not opened)

    return read


_PLAIN = '{"name": "NAME", "arguments": ARGUMENTS}'


def _read_apertus(reader: Reader, calls: Calls, opened: str) -> Step[None]:
    """Read a list of objects whose only key is the name."""
    yield from reader.space()
    yield from reader.expect("[")
    is_first = True
    while (yield from next_member(reader, "]", is_first=is_first)):
        yield from reader.expect("{")
        yield from reader.space()
        calls.begin((yield from read_key(reader)))
        yield from reader.space()
        yield from reader.expect(":")
        yield from reader.space()
        if (yield from reader.looking("{")) is None:
            raise BadCall("the arguments are no object")
        yield from read_value(reader, calls.arguments)
        yield from reader.space()
        yield from reader.expect("}")
        calls.end()
        is_first = False
    yield from reader.space()
    yield from reader.optional("<|tools_suffix|>")


def _read_action(reader: Reader, calls: Calls, opened: str) -> Step[None]:
    """Read Command R's list in a block of Markdown."""
    yield from read_calls(reader, calls)
    yield from reader.space()
    yield from reader.optional("```")


HERMES = Syntax(
    "hermes",
    ("<tool_call>",),
    _closed("</tool_call>"),
    frame=Frame("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>"),
    body=_PLAIN,
)
# What is told to models that were told nothing of tools is not always kept to.
PLAIN_JSON = Syntax("json", HERMES.opens, HERMES.read, bare=True, frame=HERMES.frame, body=_PLAIN)
LLAMA3 = Syntax(
    "llama3",
    ("<|python_tag|>",),
    _closed(),
    bare=True,
    frame=Frame("", several=False),
    body='{"name": "NAME", "parameters": ARGUMENTS}',
)
COHERE = Syntax(
    "cohere",
    ("<|START_ACTION|>",),
    _closed("<|END_ACTION|>"),
    frame=Frame("<|START_ACTION|>[\n    ", ",\n    ", "\n]<|END_ACTION|>"),
    body='{"tool_name": "NAME", "parameters": ARGUMENTS}',
)
COMMAND_R = Syntax("command-r", ("Action:\n```json\n", "Action: ```json\n"), _read_action)
TOOLCALL = Syntax(
    "toolcall",
    ("<TOOLCALL>",),
    _closed("</TOOLCALL>"),
    frame=Frame("<TOOLCALL>[", ", ", "]</TOOLCALL>"),
    body=_PLAIN,
)
TOOL_CALLS = Syntax(
    "tool-calls",
    ("<tool_calls>",),
    _closed("</tool_calls>"),
    frame=Frame("<tool_calls>[", ", ", "]</tool_calls>"),
    body=_PLAIN,
)
MINIMAX_M1 = Syntax(
    "minimax-m1",
    TOOL_CALLS.opens,
    TOOL_CALLS.read,
    frame=Frame("<tool_calls>\n", "\n", "\n</tool_calls>"),
    body=_PLAIN,
)
GRANITE = Syntax(
    "granite",
    ("<|tool_call|>", "<tool_call>"),
    _closed("</tool_call>"),
    frame=Frame("<|tool_call|>[", ", ", "]"),
    body=_PLAIN,
)
APERTUS = Syntax(
    "apertus",
    ("<|tools_prefix|>",),
    _read_apertus,
    frame=Frame("<|tools_prefix|>[", ", ", "]<|tools_suffix|>"),
    body='{"NAME": ARGUMENTS}',
)
GIGACHAT = Syntax(
    "gigachat",
    ("<|function_call|>",),
    _closed(),
    frame=Frame("<|function_call|>", several=False),
    body=_PLAIN,
)
_FUNCTION_CALL = "<|message_sep|>\n\nfunction call<|role_sep|>\n"
GIGACHAT3 = Syntax(
    "gigachat3", (_FUNCTION_CALL,), _closed(), frame=Frame(_FUNCTION_CALL, several=False), body=_PLAIN
)
