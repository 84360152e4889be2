"""JSON as a model writes it, one value at a time: checked, mended where its meaning is plain, and handed on in pieces.

Mended are a comma before a closing bracket, line breaks and wrong escapes within texts, and Python's True, False, None.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

from .reader import BadCall, Reader, Step

Out = Callable[[str], None]

_DEEPEST = 100
_LONGEST_NUMBER = 400
_RUN = re.compile(r'[^"\\\x00-\x1f]+')
_WORD = re.compile(r"[-+.\w]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORDS = {
    "true": "true", "false": "false", "null": "null", "True": "true", "False": "false", "None": "null",
}  # fmt: skip
_HEX = re.compile(r"[0-9a-fA-F]{4}")


def read_value(reader: Reader, out: Out, depth: int = 0) -> Step[None]:
    """Read one value and hand its text on; raises BadCall where it is none."""
    if depth > _DEEPEST:
        raise BadCall("the arguments nest too deeply")
    yield from reader.space()
    char = yield from reader.peek()
    if char == "{":
        yield from _members(reader, out, "}", depth)
    elif char == "[":
        yield from _members(reader, out, "]", depth)
    elif char == '"':
        yield from read_text(reader, out)
    else:
        yield from _word(reader, out)


def read_json(reader: Reader) -> Step[object]:
    """Read one value whole; raises BadCall where it is none."""
    pieces: list[str] = []
    yield from read_value(reader, pieces.append)
    return parsed("".join(pieces))


def parsed(text: str) -> object:
    """Return what JSON text stands for; raises BadCall."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadCall("the arguments are no JSON") from None


def read_text(reader: Reader, out: Out) -> Step[None]:
    """Read a text between double quotes and hand it on as JSON; raises BadCall."""
    yield from reader.expect('"')
    out('"')
    while True:
        run = _RUN.match(reader.text, reader.at)
        if run is not None:
            out(run.group())
            reader.at = run.end()
        char = yield from reader.peek()
        if char == '"':
            reader.at += 1
            out('"')
            return
        if char == "\\":
            yield from _escape(reader, out)
        elif char and char < " ":
            out(json.dumps(char)[1:-1])
            reader.at += 1
        elif not char:
            raise BadCall("it is cut off")


def read_key(reader: Reader) -> Step[str]:
    """Read a text between double quotes whole."""
    pieces: list[str] = []
    yield from read_text(reader, pieces.append)
    return str(parsed("".join(pieces)))


def next_member(reader: Reader, close: str, *, is_first: bool) -> Step[bool]:
    """Read up to the next member of an object or a list; return False where it is closed instead."""
    yield from reader.space()
    if not is_first and (yield from reader.looking(close)) is None:
        yield from reader.expect(",")
        yield from reader.space()
    return (yield from reader.optional(close)) is None


def _members(reader: Reader, out: Out, close: str, depth: int) -> Step[None]:
    out((yield from reader.expect("{", "[")))
    is_first = True
    while (yield from next_member(reader, close, is_first=is_first)):
        if not is_first:
            out(", ")
        if close == "}":
            yield from read_text(reader, out)
            yield from reader.space()
            yield from reader.expect(":")
            out(": ")
        yield from read_value(reader, out, depth + 1)
        is_first = False
    out(close)


def _escape(reader: Reader, out: Out) -> Step[None]:
    """Read a backslash and what it escapes."""
    if not (yield from reader.have(2)):
        raise BadCall("it is cut off")
    char = reader.text[reader.at + 1]
    if char == "u":
        yield from _code(reader, out)
    elif char == "\n" or char == "'":
        out("\\n" if char == "\n" else "'")
        reader.at += 2
    elif char in '"\\/bfnrt':
        out(f"\\{char}")
        reader.at += 2
    else:  # as in a regular expression or a path
        out("\\\\")
        reader.at += 1


def _code(reader: Reader, out: Out) -> Step[None]:
    """Read a character by its number; half a pair is none."""
    yield from reader.have(6)
    code = reader.text[reader.at + 2 : reader.at + 6]
    if not _HEX.fullmatch(code):
        raise BadCall("it is cut off" if reader.ended else r"\u is not followed by four digits")
    length = 6
    if 0xD800 <= int(code, 16) < 0xE000:
        yield from reader.have(12)
        other = reader.text[reader.at + 6 : reader.at + 12]
        is_pair = other[:2] == "\\u" and _HEX.fullmatch(other[2:]) and 0xDC00 <= int(other[2:], 16) < 0xE000
        if int(code, 16) >= 0xDC00 or not is_pair:
            raise BadCall("half of a character is missing")
        length = 12
    out(reader.text[reader.at : reader.at + length])
    reader.at += length


def _word(reader: Reader, out: Out) -> Step[None]:
    """Read a number or a constant."""
    while True:
        found = _WORD.match(reader.text, reader.at)
        assert found is not None
        word = found.group()
        if found.end() < len(reader.text) or reader.ended or len(word) > _LONGEST_NUMBER:
            break
        yield
    if len(word) > _LONGEST_NUMBER:
        raise BadCall("a number is too long")
    if word in _WORDS:
        out(_WORDS[word])
    elif _NUMBER.fullmatch(word) and math.isfinite(float(word)):
        out(word)
    else:
        raise BadCall("it is cut off" if reader.is_over else "the arguments are no JSON")
    reader.at += len(word)
