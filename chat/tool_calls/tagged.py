"""Calls whose every argument has tags of its own; what its value is follows from the tool's schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .calls import Calls
from .reader import BadCall, Reader, Step
from .syntax import Frame, Rules, Syntax
from .types import TEXT, Schema, argument, typed, types_of

_LONGEST_VALUE = 10_000_000
_ATTRIBUTE = re.compile(r'([\w:]+)="([^"]*)"')
_QUOTED = "<![CDATA["
_WORDS = {"&quot;": '"', "&lt;": "<", "&gt;": ">", "&amp;": "&"}


class Arguments:
    """Writes one call's arguments as a JSON object, while its values come one by one."""

    def __init__(self, calls: Calls, name: str) -> None:
        self._calls = calls
        self._schema = calls.schema(name)
        self._num = 0
        calls.arguments("{")

    def key(self, name: str) -> frozenset[str] | None:
        """Begin an argument; return the types that it may have."""
        self.out(", " if self._num else "")
        self.out(f"{json.dumps(name, ensure_ascii=False)}: ")
        self._num += 1
        return types_of(argument(self._schema, name), self._schema)

    def out(self, text: str) -> None:
        """Add JSON text."""
        self._calls.arguments(text)

    def value(self, value: object) -> None:
        """Add a whole value."""
        self.out(json.dumps(value, ensure_ascii=False))

    def end(self) -> None:
        """End the call."""
        self.out("}")
        self._calls.end()


def read_tagged_value(
    reader: Reader, arguments: Arguments, types: frozenset[str] | None, closes: tuple[str, ...]
) -> Step[None]:
    """Read a value up to its closing tag: a text piece by piece, anything else whole."""
    if types == TEXT:
        arguments.out('"')
        yield from reader.stream(
            lambda piece: arguments.out(json.dumps(piece, ensure_ascii=False)[1:-1]), *closes
        )
        arguments.out('"')
    else:
        pieces: list[str] = []
        yield from reader.stream(pieces.append, *closes)
        arguments.value(typed("".join(pieces), types))


@dataclass(frozen=True, slots=True)
class Tag:
    """What begins with `open`, says its name before `end`, and is over at `close`."""

    open: str
    end: str
    close: str

    def head(self, text: str) -> Mapping[str, str]:
        """Read `=NAME`, or attributes; `name` is the name."""
        found = {key: _unescaped(value) for key, value in _ATTRIBUTE.findall(text)}
        if not found:
            return {"name": text.removeprefix("=").strip().strip('"')}
        return {**found, "name": found.get("name") or found.get("tool") or found.get("key") or ""}


@dataclass(frozen=True, slots=True)
class Tagged:
    """A syntax of tags.

    sections: what may close the section that opens with the syntax's own text; lines: a value stands on lines of its
    own; separator: between tags, when they are written; head, key: how a head is written, with NAME in it;
    string_flag: the head says whether the value is a text; quotes: a value may stand in a CDATA section.
    """

    call: Tag
    parameter: Tag
    sections: tuple[str, ...] = ()
    lines: bool = False
    separator: str = "\n"
    head: str = "=NAME"
    key: str = ""
    string_flag: bool = False
    quotes: bool = False

    def read(self, reader: Reader, calls: Calls, opened: str) -> Step[None]:
        """Read the calls of one section."""
        is_open, is_first = opened.startswith(self.call.open), True
        while True:
            yield from reader.space()
            if not is_open and (yield from reader.optional(self.call.open)) is None:
                break
            yield from self._read_call(reader, calls)
            is_open = is_first = False
        if is_first:
            raise BadCall("it is cut off" if reader.is_over else "there is no call")
        if self.sections:
            yield from reader.optional(*self.sections)

    def _read_call(self, reader: Reader, calls: Calls) -> Step[None]:
        head = self.call.head((yield from reader.until(self.call.end)))
        calls.begin(head["name"])
        arguments = Arguments(calls, head["name"].strip())
        while True:
            yield from reader.space()
            found = yield from reader.looking(self.parameter.open, self.call.close, *self.sections)
            if found is None:
                raise BadCall("it is cut off" if reader.is_over else f"{self.call.close!r} is missing")
            if found != self.parameter.open:
                break
            reader.at += len(found)
            yield from self._read_parameter(reader, arguments)
        yield from reader.optional(self.call.close)
        arguments.end()

    def _read_parameter(self, reader: Reader, arguments: Arguments) -> Step[None]:
        head = self.parameter.head((yield from reader.until(self.parameter.end)))
        if not head["name"]:
            raise BadCall("an argument has no name")
        expected = arguments.key(head["name"])
        types = _said(head) or expected
        closes: tuple[str, ...] = (self.parameter.close,)
        if self.quotes and (yield from reader.optional(_QUOTED)):
            closes = (f"]]>{self.parameter.close}",)
        if self.lines:
            yield from reader.optional("\n")
            closes = (f"\n{self.parameter.close}", self.parameter.close)
        yield from read_tagged_value(reader, arguments, types, closes)

    def write(self, rules: Rules, tool: str, schema: Schema) -> str:
        """Return the expression of one call, without what opens it."""
        line = "\n" if self.lines else ""

        def parameter(key: str, is_text: bool, value: Callable[[str], str]) -> str:
            said = f' string="{"true" if is_text else "false"}"' if self.string_flag else ""
            head = (self.key or self.head).replace("NAME", key)
            begin = rules.text(f"{self.parameter.open}{head}{said}{self.parameter.end}{line}")
            return f"{begin} {value(f'{line}{self.parameter.close}')} {rules.text(self.separator)}"

        head = rules.text(f"{self.head.replace('NAME', tool)}{self.call.end}{self.separator}")
        return f"{head} {write_arguments(rules, schema, parameter)} {rules.text(self.call.close)}"


def write_arguments(
    rules: Rules, schema: Schema, parameter: Callable[[str, bool, Callable[[str], str]], str]
) -> str:
    """Return the expression of a tool's arguments in the order of its schema, those that are not required optional.

    parameter: writes one, given its name, whether it is a text, and what writes its value and the text after it.
    """
    properties, required = schema.get("properties"), schema.get("required")
    needed = required if isinstance(required, list) else []
    parts = []
    for key in properties if isinstance(properties, Mapping) else ():
        inner = argument(schema, str(key))
        part = parameter(str(key), types_of(inner, schema) == TEXT, _value(rules, inner, schema))
        parts.append(part if key in needed else f"({part})?")
    return " ".join(parts)


def _value(rules: Rules, schema: Schema, root: Schema) -> Callable[[str], str]:
    def write(close: str) -> str:
        if types_of(schema, root) != TEXT:
            return f"{rules.json(schema, root)} {rules.text(close)}"
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(values, list):
            return f"({' | '.join(rules.text(str(value)) for value in values)}) {rules.text(close)}"
        return rules.up_to(close)

    return write


def _said(head: Mapping[str, str]) -> frozenset[str] | None:
    """Return the type that a tag itself says its value has."""
    if "string" in head:
        return frozenset({"string"}) if head["string"] == "true" else frozenset({"other"})
    return frozenset({head["type"]}) if "type" in head else None


def _unescaped(text: str) -> str:
    return re.sub("|".join(_WORDS), lambda found: _WORDS[found.group()], text)


def _tagged(
    name: str, spec: Tagged, opens: tuple[str, ...], frame: tuple[str, str, str] | None = None
) -> Syntax:
    """Return a syntax; frame: what stands before, between and after its calls."""
    if frame is None:
        return Syntax(name, opens, spec.read)
    return Syntax(name, opens, spec.read, frame=Frame(*frame), write=spec.write)


_FUNCTION = Tag("<function", ">", "</function>")
_PARAMETER = Tag("<parameter", ">", "</parameter>")
QWEN3_CODER = _tagged(
    "qwen3-coder",
    Tagged(_FUNCTION, _PARAMETER, ("</tool_call>",), lines=True),
    ("<tool_call>", "<function="),
    ("<tool_call>\n<function", "\n</tool_call>\n<tool_call>\n<function", "\n</tool_call>"),
)
SEED = _tagged(
    "seed",
    Tagged(_FUNCTION, _PARAMETER, ("</seed:tool_call>",)),
    ("<seed:tool_call>",),
    (
        "<seed:tool_call>\n<function",
        "\n</seed:tool_call>\n<seed:tool_call>\n<function",
        "\n</seed:tool_call>",
    ),
)
MINICPM = _tagged(
    "minicpm",
    Tagged(_FUNCTION, Tag("<param", ">", "</param>"), separator="", head=' name="NAME"', quotes=True),
    ('<function name="',),
    ("<function", "\n<function", ""),
)
_INVOKE = Tag("<invoke", ">", "</invoke>")
MINIMAX_M2 = _tagged(
    "minimax-m2",
    Tagged(_INVOKE, _PARAMETER, ("</minimax:tool_call>",), head=' name="NAME"'),
    ("<minimax:tool_call>",),
    ("<minimax:tool_call>\n<invoke", "\n<invoke", "\n</minimax:tool_call>"),
)


def _dsml(section: str) -> Syntax:
    spec = Tagged(
        Tag("<｜DSML｜invoke", ">", "</｜DSML｜invoke>"),
        Tag("<｜DSML｜parameter", ">", "</｜DSML｜parameter>"),
        (f"</｜DSML｜{section}>",),
        head=' name="NAME"',
        string_flag=True,
    )
    frame = (f"<｜DSML｜{section}>\n<｜DSML｜invoke", "\n<｜DSML｜invoke", f"\n</｜DSML｜{section}>")
    return _tagged(f"dsml-{section}", spec, (f"<｜DSML｜{section}>",), frame)


DSML_V32 = _dsml("function_calls")
DSML_V4 = _dsml("tool_calls")
ATEM = _tagged(
    "atem",
    Tagged(
        Tag("<atem:invoke", ">", "</atem:invoke>"),
        Tag("<atem:parameter", ">", "</atem:parameter>"),
        ("</atem:function_calls>",),
    ),
    ("<atem:function_calls>",),
)
KIMI_K3 = _tagged(
    "kimi-k3",
    Tagged(
        Tag("<|open|>call", "<|sep|>", "<|close|>call<|sep|>"),
        Tag("<|open|>argument", "<|sep|>", "<|close|>argument<|sep|>"),
        ("<|close|>tools<|sep|>",),
    ),
    ("<|open|>tools<|sep|>",),
)


@dataclass(frozen=True, slots=True)
class Pairs:
    """GLM's tags, and those after it: a name, then keys and values in turn; suffix: what ends every tag's name."""

    suffix: str = ""
    sections: tuple[str, ...] = ()

    def tag(self, name: str) -> str:
        """Return a tag."""
        return f"<{name}{self.suffix}>"

    def read(self, reader: Reader, calls: Calls, opened: str) -> Step[None]:
        """Read one call, or the calls of a section."""
        call_open = self.tag("tool_call")
        is_open = opened == call_open
        while True:
            yield from reader.space()
            if not is_open and (yield from reader.optional(call_open)) is None:
                break
            yield from self._read_call(reader, calls)
            is_open = False
            if not self.sections:
                return
        yield from reader.optional(*self.sections)

    def _read_call(self, reader: Reader, calls: Calls) -> Step[None]:
        key, close = self.tag("arg_key"), self.tag("/tool_call")
        yield from reader.space()
        name = (yield from reader.before(self.tag("tool_sep"), key, close, "\n")).strip()
        yield from reader.optional(self.tag("tool_sep"))
        calls.begin(name)
        arguments = Arguments(calls, name)
        while True:
            yield from reader.space()
            if not (yield from reader.optional(key)):
                break
            types = arguments.key((yield from reader.until(self.tag("/arg_key"))).strip())
            yield from reader.space()
            yield from reader.expect(self.tag("arg_value"))
            yield from read_tagged_value(reader, arguments, types, (self.tag("/arg_value"),))
        if not reader.is_over:
            yield from reader.expect(close)
        arguments.end()

    def write(self, rules: Rules, tool: str, schema: Schema) -> str:
        """Return the expression of one call, without what opens it; line breaks are the model's choice."""
        line = rules.regex("\\n?")

        def parameter(key: str, is_text: bool, value: Callable[[str], str]) -> str:
            begin = rules.text(f"{self.tag('arg_key')}{key}{self.tag('/arg_key')}")
            return (
                f"{begin} {line} {rules.text(self.tag('arg_value'))} {value(self.tag('/arg_value'))} {line}"
            )

        begin = rules.text(tool + (self.tag("tool_sep") if self.sections else ""))
        return f"{begin} {line} {write_arguments(rules, schema, parameter)}"


_GLM, _HUNYUAN = Pairs(), Pairs(":opensource", ("</tool_calls:opensource>",))
GLM = Syntax(
    "glm",
    ("<tool_call>",),
    _GLM.read,
    frame=Frame("<tool_call>", "</tool_call>\n<tool_call>", "</tool_call>"),
    write=_GLM.write,
)
HUNYUAN = Syntax(
    "hunyuan",
    ("<tool_calls:opensource>", "<tool_call:opensource>"),
    _HUNYUAN.read,
    frame=Frame(
        "<tool_calls:opensource>\n<tool_call:opensource>",
        "</tool_call:opensource>\n<tool_call:opensource>",
        "</tool_call:opensource>\n</tool_calls:opensource>",
    ),
    write=_HUNYUAN.write,
)
