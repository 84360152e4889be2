"""The functions that Go's templates have, and those that Ollama adds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from html import escape
from urllib.parse import quote_plus

from .values import Written, text_of, to_json

_VERB = re.compile(r"%([-+ 0#]*)(\d{0,6})(?:\.(\d{1,6}))?([a-zA-Z%])")
_TYPES = {
    "string": "string", "number": "number", "integer": "number", "boolean": "boolean", "array": "any[]",
    "object": "Record<string, any>", "null": "null",
}  # fmt: skip


class GoError(ValueError):
    """What a template asks of a value that the value has not."""


def _length(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, Sequence | Mapping):
        return len(value)
    raise GoError(f"len of {text_of(value)}")


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(str(key))
        elif isinstance(value, Sequence) and isinstance(key, int) and not isinstance(key, bool):
            if not 0 <= key < len(value):
                raise GoError(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise GoError(f"cannot index {text_of(value)[:40]} with {text_of(key)[:40]}")
    return value


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, Sequence):
        raise GoError(f"cannot slice {text_of(value)[:40]}")
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    places = [*bounds, *([0, len(raw)][len(bounds) :])]
    start, end = places[0], places[1]
    if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start <= end <= len(raw):
        raise GoError(f"slice bounds out of range [{text_of(start)}:{text_of(end)}]")
    part = raw[start:end]
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else part


def _equal(first: object, *others: object) -> bool:
    if not others:
        raise GoError("eq: missing argument for comparison")
    return any(
        (type(first) is type(other) and first == other) or _numbers_equal(first, other) for other in others
    )


def _numbers_equal(first: object, other: object) -> bool:
    return _is_number(first) and _is_number(other) and first == other


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _less(first: object, second: object) -> bool:
    if isinstance(first, str) and isinstance(second, str):
        return first < second
    if isinstance(first, int | float) and isinstance(second, int | float):
        return first < second
    raise GoError("incompatible types for comparison")


def _print(*values: object) -> str:
    """Write values one after another, a space between two that are no strings."""
    found = ""
    for at, value in enumerate(values):
        apart = at and not isinstance(value, str) and not isinstance(values[at - 1], str)
        found += (" " if apart else "") + _shown(value)
    return found


def _shown(value: object) -> str:
    return "<nil>" if value is None else text_of(value)


def _printf(form: object, *values: object) -> str:
    if not isinstance(form, str):
        raise GoError("printf: the format must be a string")
    left = list(values)

    def verb(found: re.Match[str]) -> str:
        flags, width, precision, kind = found.groups()
        if kind == "%":
            return "%"
        if not left:
            return f"%!{kind}(MISSING)"
        text = _formatted(left.pop(0), flags, precision, kind)
        size = min(int(width or 0), 1000)
        return text.ljust(size) if "-" in flags else text.rjust(size, "0" if "0" in flags else " ")

    text = _VERB.sub(verb, form)
    return text + (f"%!(EXTRA {', '.join(map(_shown, left))})" if left else "")


def _formatted(value: object, flags: str, precision: str | None, kind: str) -> str:
    if kind == "q" and isinstance(value, str):
        return to_json(value)
    if kind in "dxXobc" and isinstance(value, int):
        return _character(value) if kind == "c" else format(value, ("+" if "+" in flags else "") + kind)
    if kind in "feg" and isinstance(value, int | float):
        return format(float(value), f".{min(int(precision or 6), 100)}{kind}")
    text = _shown(value)
    return text[: int(precision)] if kind == "s" and precision is not None else text


def _character(code: int) -> str:
    """Return the character of a code point; Go writes U+FFFD for what is none."""
    return chr(code) if 0 <= code < 0xD800 or 0xE000 <= code <= 0x10FFFF else "\ufffd"


def _typescript(value: object) -> str:
    if isinstance(value, Written):
        value = value.json
    if not isinstance(value, Mapping):
        return "any"
    options = value.get("anyOf")
    if isinstance(options, Sequence) and options:
        return " | ".join(_typescript(option) for option in options)
    kinds = value.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, Sequence) else []
    return " | ".join(_TYPES.get(str(kind), "any") for kind in kinds) or "any"


def _day(back: int) -> Callable[..., str]:
    return lambda *form: (date.today() - timedelta(days=back)).isoformat()


FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "len": _length,
    "index": _index,
    "slice": _slice,
    "not": lambda value: not value,
    "eq": _equal,
    "ne": lambda first, second: not _equal(first, second),
    "lt": _less,
    "le": lambda first, second: not _less(second, first),
    "gt": lambda first, second: _less(second, first),
    "ge": lambda first, second: not _less(first, second),
    "print": _print,
    "println": lambda *values: " ".join(map(_shown, values)) + "\n",
    "printf": _printf,
    "html": lambda *values: escape(_print(*values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "urlquery": lambda *values: quote_plus(_print(*values)),
    "json": to_json,
    "currentDate": _day(0),
    "yesterdayDate": _day(1),
    "toTypeScriptType": _typescript,
}
LAZY = ("and", "or")
"""Functions that look at their arguments one by one, and give back the one that decides."""
