"""What a tool's schema says of one argument, for syntaxes that write values without saying what they are."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import TypeAlias

Schema: TypeAlias = Mapping[str, object]

_NAMES: dict[type, str] = {
    str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array",
    type(None): "null",
}  # fmt: skip
TEXT = frozenset({"string"})
_ANY: Schema = {}
_DEEPEST = 20
_LONGEST_LITERAL = 200_000


def argument(schema: Schema, key: str) -> Schema:
    """Return the schema of an argument, its references followed; an empty one if nothing is said of it."""
    found = _resolved(schema, schema)
    properties = found.get("properties")
    inner = properties.get(key) if isinstance(properties, Mapping) else None
    if not isinstance(inner, Mapping):
        more = found.get("additionalProperties")
        inner = more if isinstance(more, Mapping) else _ANY
    return _resolved(inner, schema)


def types_of(schema: Schema, root: Schema, depth: int = 0) -> frozenset[str] | None:
    """Return the types that a value may have; None if nothing is said of that.

    root: where references lead.
    """
    schema = _resolved(schema, root)
    kind = schema.get("type")
    if isinstance(kind, str):
        return frozenset({kind})
    if isinstance(kind, list):
        return frozenset(map(str, kind))
    if isinstance(values := schema.get("enum"), list):
        return frozenset(_NAMES.get(type(value), "string") for value in values)
    if "const" in schema:
        return frozenset({_NAMES.get(type(schema["const"]), "string")})
    found: set[str] = set()
    for key in ("anyOf", "oneOf"):
        cases = schema.get(key)
        for case in cases if isinstance(cases, list) and depth < _DEEPEST else ():
            types = types_of(case, root, depth + 1) if isinstance(case, Mapping) else None
            if types is None:
                return None
            found |= types
    if not found and isinstance(schema.get("properties"), Mapping):
        found.add("object")
    return frozenset(found) or None


def typed(text: str, types: frozenset[str] | None) -> object:
    """Return the value that a text stands for, given the types that it may have."""
    if types == TEXT:
        return text
    is_value, value = _literal(text.strip())
    kind = _NAMES.get(type(value), "string") if is_value else "string"
    if types is None or kind in types:
        return value if is_value else text
    if "number" in types and kind == "integer":
        return value
    if "integer" in types and isinstance(value, float) and value.is_integer():
        return int(value)
    return text if "string" in types or not is_value else value


def _literal(text: str) -> tuple[bool, object]:
    """Read JSON, or what Python prints; return whether it was one of them, and its value."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        json.dumps(value, allow_nan=False)
        return True, value
    except (ValueError, RecursionError):
        pass
    if len(text) > _LONGEST_LITERAL or not (text in ("True", "False", "None") or text.startswith(("{", "["))):
        return False, text
    try:
        value = ast.literal_eval(text)
        return True, json.loads(json.dumps(value, allow_nan=False))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, text


def _refuse(name: str) -> object:
    raise ValueError(name)


def _resolved(schema: Schema, root: Schema) -> Schema:
    """Follow a schema's reference of the form `#/a/b`."""
    for _ in range(_DEEPEST):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        here: object = root
        for step in reference.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            here = here.get(key) if isinstance(here, Mapping) else None
        if not isinstance(here, Mapping):
            return _ANY
        schema = here
    return schema
