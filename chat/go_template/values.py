"""Values as Go's templates see them: what is true, how each is written, and JSON as Go's encoder has it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


class Struct(dict[str, object]):
    """A Go struct: its fields keep their order, and one that it has not is an error."""


class Written(Struct):
    """A struct whose JSON has other names: `json` says what is written of it."""

    def __init__(self, fields: Mapping[str, object], json: object) -> None:
        super().__init__(fields)
        self.json = json


def truth(value: object) -> bool:
    """Tell whether a value is true to `if`: not zero, not empty, not nil; a struct always is."""
    return True if isinstance(value, Struct) else bool(value)


def text_of(value: object) -> str:
    """Write a value as an action does. What there is of tools and calls is written as JSON, as their authors mean."""
    if value is None:
        return "<no value>"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        return to_json(value)
    if isinstance(value, Sequence):
        if value and all(isinstance(item, Mapping) for item in value):
            return to_json(value)
        return "[" + " ".join(text_of(item) for item in value) + "]"
    return str(value)


def to_json(value: object) -> str:
    """Write JSON as Go does: without spaces, maps sorted by key, and what HTML would take for markup escaped."""
    written = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    return written.translate(_ESCAPES)


def _plain(value: object) -> object:
    if isinstance(value, Written):
        return _plain(value.json)
    if isinstance(value, Struct):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, Mapping):
        return {str(name): _plain(value[name]) for name in sorted(value, key=str)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    return value


def _float(value: float) -> str:
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value).replace("e-0", "e-").replace("e+0", "e+") if "e" in repr(value) else repr(value)
