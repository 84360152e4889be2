"""The words of a Go template: text between actions, and what stands within `{{` and `}}`."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "text", "open", "close", "field", "variable", "word", "string", "number", "char", "dot", "sign", "end"
]

_SPACE = " \t\r\n"
_OPEN = re.compile(r"\{\{(-(?=[ \t\r\n]))?")
_COMMENT = re.compile(r"[ \t\r\n]*/\*.*?\*/[ \t\r\n]*(-?)\}\}", re.DOTALL)
_CLOSE = re.compile(r"(?:(?<=[ \t\r\n])-)?\}\}")
_WORDS = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)
    | (?P<char>'(?:\\.[^']*|[^'\\\n])')
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*)(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+))
    | (?P<field>\.\w+)
    | (?P<variable>\$\w*)
    | (?P<word>[^\W\d]\w*)
    | (?P<dot>\.)
    | (?P<sign>:=|[|(),=])""",
    re.VERBOSE,
)


class GoSyntaxError(ValueError):
    """A template that is none; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Word:
    """One word; `spaced`: whitespace comes before it."""

    kind: Kind
    text: str
    line: int
    spaced: bool = False


def words(source: str) -> Iterator[Word]:
    """Yield the words of a template, an "end" last. Raises GoSyntaxError."""
    at, trim, line = 0, False, 1
    while True:
        opened = _OPEN.search(source, at)
        between = source[at : opened.start() if opened else len(source)]
        text = between.lstrip(_SPACE) if trim else between
        first, line = line, line + between.count("\n")
        if opened is None:
            yield Word("text", text, first)
            yield Word("end", "", line)
            return
        if opened.group(1):
            text = text.rstrip(_SPACE)
        if text:
            yield Word("text", text, first)
        comment = _COMMENT.match(source, opened.end())
        if comment:
            at, trim = comment.end(), bool(comment.group(1))
            line += comment.group().count("\n")
            continue
        yield Word("open", "{{", line)
        at, trim, line = yield from _action(source, opened.end(), line)


def _action(source: str, at: int, line: int) -> Generator[Word, None, tuple[int, bool, int]]:
    """Yield the words of one action; return where the text goes on, whether its whitespace is trimmed, and its line."""
    while True:
        start = at
        while at < len(source) and source[at] in _SPACE:
            line += source[at] == "\n"
            at += 1
        closed = _CLOSE.match(source, at)
        if closed:
            yield Word("close", "}}", line)
            return closed.end(), closed.group().startswith("-"), line
        found = _WORDS.match(source, at)
        if found is None or not found.group():
            rest = source[at : at + 10].split("\n")[0]
            raise GoSyntaxError("unclosed action" if not rest else f"unexpected {rest!r} in an action", line)
        kind = found.lastgroup
        assert kind is not None
        yield Word(kind, found.group(), line, spaced=at > start)  # type: ignore[arg-type]  # the groups are the kinds
        line += found.group().count("\n")
        at = found.end()
