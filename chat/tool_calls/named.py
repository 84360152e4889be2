"""Calls that are a name in the family's own tags, and then the arguments as JSON."""

from __future__ import annotations

import re

from .calls import Calls
from .json_calls import read_arguments, read_calls
from .reader import BadCall, Reader, Step
from .syntax import Frame, Syntax

_MISTRAL_ID = re.compile(r"[a-zA-Z0-9]{9}")
_KIMI_ID = re.compile(r"(?:functions\.)?(.+?)(?::\d+)?")


def _read_mistral(reader: Reader, calls: Calls, opened: str) -> Step[None]:
    """Read a list of objects, or a name, `[ARGS]` and an object."""
    yield from reader.space()
    if (yield from reader.looking("[")) is not None:
        yield from read_calls(reader, calls)
        return
    name = yield from reader.before("[CALL_ID]", "[ARGS]", "{")
    call_id = None
    if (yield from reader.optional("[CALL_ID]")):
        call_id = yield from reader.before("[ARGS]", "{")
        call_id = call_id if _MISTRAL_ID.fullmatch(call_id) else None
    yield from reader.optional("[ARGS]")
    calls.begin(name, call_id)
    yield from read_arguments(reader, calls)


_CALLS_BEGIN, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL_BEGIN, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_SEP = "<｜tool▁sep｜>"


def _read_deepseek(reader: Reader, calls: Calls, opened: str) -> Step[None]:
    """Read `name sep {…}` (V3.1), or `function sep name` and a block of Markdown (V3, R1)."""
    is_open, is_first = opened == _CALL_BEGIN, True
    while True:
        yield from reader.space()
        if not is_open and (yield from reader.optional(_CALL_BEGIN)) is None:
            break
        name = yield from reader.until(_SEP)
        if (yield from reader.peek()) != "{":
            name = yield from reader.until("\n", "{")
            yield from reader.space()
            yield from reader.optional("```json", "```")
        calls.begin(name)
        yield from read_arguments(reader, calls)
        yield from reader.space()
        yield from reader.optional("```")
        yield from reader.space()
        yield from reader.optional(_CALL_END)
        is_open = is_first = False
    if is_first:
        raise BadCall("there is no call")
    yield from reader.optional(_CALLS_END)


def _read_kimi(reader: Reader, calls: Calls, opened: str) -> Step[None]:
    """Read calls whose id names the function: `functions.name:0`."""
    is_first = True
    while True:
        yield from reader.space()
        if (yield from reader.optional("<|tool_call_begin|>")) is None:
            break
        call_id = (yield from reader.until("<|tool_call_argument_begin|>")).strip()
        found = _KIMI_ID.fullmatch(call_id)
        calls.begin(found[1] if found else "", call_id)
        yield from read_arguments(reader, calls)
        yield from reader.space()
        yield from reader.optional("<|tool_call_end|>")
        is_first = False
    if is_first:
        raise BadCall("there is no call")
    yield from reader.optional("<|tool_calls_section_end|>")


def _read_solar(reader: Reader, calls: Calls, opened: str) -> Step[None]:
    """Read calls of an id, a name and arguments, each in a tag of its own."""
    is_first = True
    while True:
        yield from reader.space()
        if (yield from reader.optional("<|tool_call:begin|>")) is None:
            break
        yield from reader.until("<|tool_call:name|>")
        calls.begin((yield from reader.until("<|tool_call:args|>")))
        yield from read_arguments(reader, calls)
        yield from reader.space()
        yield from reader.optional("<|tool_call:end|>")
        is_first = False
    if is_first:
        raise BadCall("there is no call")
    yield from reader.optional("<|calls|>", "<|end|>")


def _read_harmony(reader: Reader, calls: Calls, opened: str) -> Step[None]:
    """Read the arguments of a message to a function, whose header has named it."""
    calls.begin(opened.removeprefix("functions."))
    yield from read_arguments(reader, calls)
    yield from reader.space()
    yield from reader.optional("<|call|>", "<|end|>")


def _read_functionary(reader: Reader, calls: Calls, opened: str) -> Step[None]:
    """Read `name>{…}</function>`."""
    calls.begin((yield from reader.until(">")))
    yield from read_arguments(reader, calls)
    yield from reader.space()
    yield from reader.optional("</function>")


def _read_recipient(reader: Reader, calls: Calls, opened: str) -> Step[None]:
    """Read a name, a line break and arguments; `all` is the user, to whom text goes."""
    if (yield from reader.optional("all\n")):
        return
    name = yield from reader.until("\n")
    if name not in calls.schemas:
        raise BadCall("this is no call of a tool")
    yield from reader.space()
    if (yield from reader.looking("{")) is None:
        raise BadCall("the arguments are no object")
    calls.begin(name)
    yield from read_arguments(reader, calls)


MISTRAL_LIST = Syntax(
    "mistral-list",
    ("[TOOL_CALLS]",),
    _read_mistral,
    frame=Frame("[TOOL_CALLS][", ", ", "]"),
    # Without an id, which these models write after the arguments if at all.
    body='{"name": "NAME", "arguments": ARGUMENTS}',
)
MISTRAL = Syntax(
    "mistral",
    ("[TOOL_CALLS]",),
    _read_mistral,
    frame=Frame("[TOOL_CALLS]", "[TOOL_CALLS]"),
    body="NAME[ARGS]ARGUMENTS",
)
DEEPSEEK_V3 = Syntax(
    "deepseek-v3",
    (_CALLS_BEGIN, _CALL_BEGIN),
    _read_deepseek,
    frame=Frame(_CALLS_BEGIN, "\n", _CALLS_END),
    body=f"{_CALL_BEGIN}function{_SEP}NAME\n```json\nARGUMENTS\n```{_CALL_END}",
)
DEEPSEEK_V31 = Syntax(
    "deepseek-v3.1",
    (_CALLS_BEGIN, _CALL_BEGIN),
    _read_deepseek,
    frame=Frame(_CALLS_BEGIN, "", _CALLS_END),
    body=f"{_CALL_BEGIN}NAME{_SEP}ARGUMENTS{_CALL_END}",
)
KIMI = Syntax(
    "kimi",
    ("<|tool_calls_section_begin|>",),
    _read_kimi,
    frame=Frame("<|tool_calls_section_begin|>", "", "<|tool_calls_section_end|>"),
    body="<|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>ARGUMENTS<|tool_call_end|>",
)
SOLAR = Syntax(
    "solar",
    ("<|tool_calls|>",),
    _read_solar,
    frame=Frame("<|tool_calls|>", "", ""),
    body="<|tool_call:begin|>ID<|tool_call:name|>NAME<|tool_call:args|>ARGUMENTS<|tool_call:end|>",
)
HARMONY = Syntax(
    "harmony",
    (" to=functions.",),
    _read_harmony,
    frame=Frame("", several=False),
    body=" to=functions.NAME<|channel|>commentary json<|message|>ARGUMENTS",
)
FUNCTIONARY = Syntax(
    "functionary",
    ("<function=",),
    _read_functionary,
    frame=Frame("<function=", "</function><function=", "</function>"),
    body="NAME>ARGUMENTS",
)
RECIPIENT = Syntax(
    "functionary-v3.2",
    (">>>",),
    _read_recipient,
    in_prompt=True,
    frame=Frame("", ">>>"),
    body="NAME\nARGUMENTS",
)
