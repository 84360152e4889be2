"""Which JSON schemas can be enforced: whatever could not be is refused by name, never skipped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Final, NoReturn
from urllib.parse import unquote

from ...errors import InvalidRequest
from .size import check_regex

Schema = dict[str, object]

_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions")
_SINGLE: Final = ("additionalProperties", "additionalItems", "items")

_ENFORCED: Final = {
    *(*_LISTS, *_MAPS, *_SINGLE),
    *("type", "enum", "const", "$ref", "required", "minProperties", "maxProperties", "minItems", "maxItems"),
    *("minLength", "maxLength", "pattern", "format", "multipleOf"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
_SAY_NOTHING: Final = {
    *(
        "title",
        "description",
        "default",
        "examples",
        "example",
        "$comment",
        "$schema",
        "$id",
        "id",
        "$anchor",
    ),
    *("readOnly", "writeOnly", "deprecated", "discriminator", "externalDocs", "xml"),
}
_FORMATS: Final = {
    *("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"),
}
_HINTS: Final = {
    "nullable": 'write "type": ["string", "null"]',
    "oneOf": "anyOf is enforced",
    "uniqueItems": "describe it in the prompt instead",
    "not": "list what is allowed instead, with enum or anyOf",
    "if": "write the cases as anyOf",
}
_DEEPEST = 200

# 29 February in leap years only, which the enforced formats leave open.
_CALENDAR: Final = (
    "^(?:....-(?:0[13-9]|1[0-2])-|....-02-(?:[01]|2[0-8])"
    "|(?:..(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)


def enforceable(schema: Schema) -> Schema:
    """Return the schema as the library is to read it; raises InvalidRequest for what it would not enforce."""
    schema = copy.deepcopy(schema)
    # The dialect decides which keywords mean nothing; here every keyword means something.
    schema.pop("$schema", None)
    found = list(_subschemas(schema))
    for part, path in found:
        _check(part, path)
        _check_patterns(part)
    if not _ends(schema, schema, _endable(schema, [part for part, _ in found])):
        _refuse("the schema accepts nothing: what it requires requires itself again, without end")
    for part, _ in found:
        if part.get("format") in ("date", "date-time"):
            more = part.setdefault("allOf", [])
            assert isinstance(more, list)
            more.append({"pattern": _CALENDAR})
    return schema


def relaxed(schema: Schema) -> tuple[Schema, list[str]]:
    """Return a schema without the keywords that cannot be enforced, and what they were.

    It allows more than the schema, never less; what is left may still be too much to enforce.
    """
    schema = copy.deepcopy(schema)
    schema.pop("$schema", None)
    dropped: list[str] = []
    for part, path in _subschemas(schema):
        for key in [*part]:
            if key == "x-guidance" or not (key in _ENFORCED or key in _SAY_NOTHING or key.startswith("x-")):
                kind = part.get("type")
                if key == "nullable" and part.pop(key) is True and isinstance(kind, str):
                    part["type"] = [kind, "null"]
                elif key != "nullable":
                    dropped.append(f"{path}/{key}")
                    del part[key]
        if "oneOf" in part and "anyOf" not in part:
            part["anyOf"] = part.pop("oneOf")
        for key, check in (("format", _check), ("minProperties", _check), ("additionalItems", _check)):
            if key in part and not _passes(
                check, {"type": part.get("type"), key: part[key], **_beside(part)}
            ):
                dropped.append(f"{path}/{key}")
                del part[key]
        if "pattern" in part and not _passes(
            lambda one, _: _check_patterns(one), {"pattern": part["pattern"]}
        ):
            dropped.append(f"{path}/pattern")
            del part["pattern"]
    return schema, dropped


def _beside(part: Schema) -> Schema:
    """Return what some keywords of a schema are judged by."""
    keys = ("items", "required", "additionalProperties", "patternProperties")
    return {key: part[key] for key in keys if key in part}


def _passes(check: Callable[[Schema, str], None], part: Schema) -> bool:
    try:
        check(part, "")
    except InvalidRequest:
        return False
    return True


def _subschemas(schema: Schema) -> Iterator[tuple[Schema, str]]:
    """Yield every schema within the schema, each once, with the path to it."""
    seen: set[int] = set()
    waiting: list[tuple[object, str, int]] = [(schema, "", 0)]
    while waiting:
        part, path, depth = waiting.pop()
        if isinstance(part, bool) or id(part) in seen:
            continue
        if not isinstance(part, dict):
            _refuse(f"{path} must be a schema: an object, true or false")
        if depth > _DEEPEST:
            _refuse(f"the schema is nested more than {_DEEPEST} deep")
        seen.add(id(part))
        yield part, path
        for inner, key in _children(part, path):
            waiting.append((inner, f"{path}/{key}", depth + 1))
        if isinstance(part.get("$ref"), str) and (target := _resolve(schema, str(part["$ref"]))) is not None:
            waiting.append((target, str(part["$ref"]).removeprefix("#"), depth + 1))


def _children(part: Schema, path: str) -> Iterator[tuple[object, str]]:
    for key, value in part.items():
        if key in _LISTS or (key == "items" and isinstance(value, list)):
            if not isinstance(value, list):
                _refuse(f"{path}/{key} must be a list of schemas")
            yield from ((inner, f"{key}/{i}") for i, inner in enumerate(value))
        elif key in _MAPS:
            if not isinstance(value, dict):
                _refuse(f"{path}/{key} must be an object of schemas")
            yield from ((inner, f"{key}/{name}") for name, inner in value.items())
        elif key in _SINGLE:
            yield value, key


def _check(part: Schema, path: str) -> None:
    """Refuse the first keyword of one schema that would not be enforced."""
    for key in part:
        if key == "x-guidance" or not (key in _ENFORCED or key in _SAY_NOTHING or key.startswith("x-")):
            _cannot(key, path, hint=_HINTS.get(key))
    kind, form = part.get("type"), part.get("format")
    if form is not None and form not in _FORMATS and not (form in ("float", "double") and kind == "number"):
        known = ", ".join(sorted(_FORMATS))
        _cannot("format", path, f" with the value {form!r}", hint=f"the formats are {known}")
    if "additionalItems" in part and not isinstance(part.get("items"), list):
        _cannot("additionalItems", path, " beside items that are no list")
    least, required = part.get("minProperties", 0), part.get("required", [])
    # Where any key may come, the same one may come twice, and counts once.
    is_open = part.get("additionalProperties") is not False or "patternProperties" in part
    if (
        isinstance(least, int)
        and isinstance(required, list)
        and is_open
        and least > len(set(map(str, required)))
    ):
        _cannot("minProperties", path, " where other keys may come", hint="list the keys as required")
    if not isinstance(part.get("allOf", []), list):
        _refuse(f"{path}/allOf must be a list of schemas")


def _check_patterns(part: Schema) -> None:
    """Refuse patterns that are too large."""
    keys = part.get("patternProperties", {})
    assert isinstance(keys, dict)
    for pattern in (part.get("pattern"), *keys):
        if isinstance(pattern, str):
            check_regex(pattern, field="format", noun="schema's pattern")


def _resolve(schema: Schema, reference: str) -> object:
    """Return what a reference of the form `#/a/b` points to; None where it points nowhere or elsewhere."""
    if reference != "#" and not reference.startswith("#/"):
        return None
    here: object = schema
    for step in reference.split("/")[1:]:
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(here, dict):
            here = here.get(key)
        elif isinstance(here, list) and key.isdecimal() and int(key) < len(here):
            here = here[int(key)]
        else:
            return None
    return here


def _endable(root: Schema, parts: list[Schema]) -> set[int]:
    """Return the ids of the schemas that some finite value satisfies, as far as recursion is concerned."""
    endable: set[int] = set()
    targets = [_resolve(root, str(part["$ref"])) for part in parts if "$ref" in part]
    while new := {id(t) for t in targets if id(t) not in endable and _ends(t, root, endable)}:
        endable |= new
    return endable


def _ends(part: object, root: Schema, endable: set[int]) -> bool:
    """Tell whether a finite value satisfies the schema, if references lead to the endable ones only."""
    if not isinstance(part, dict):
        return part is not False
    if "$ref" in part:
        target = _resolve(root, str(part["$ref"]))
        if target is not None and id(target) not in endable:
            return False
    if not all(_ends(inner, root, endable) for inner in _listed(part, "allOf")):
        return False
    for key in ("anyOf", "oneOf"):
        if key in part and not any(_ends(inner, root, endable) for inner in _listed(part, key)):
            return False
    if "enum" in part or "const" in part or "type" not in part:
        return True
    types = part["type"] if isinstance(part["type"], list) else [part["type"]]
    if not types or not {"object", "array"}.issuperset(map(str, types)):
        return True
    if "object" in types:
        properties = part.get("properties")
        known = properties if isinstance(properties, dict) else {}
        if all(_ends(known.get(name, True), root, endable) for name in _listed(part, "required")):
            return True
    return "array" in types and all(_ends(item, root, endable) for item in _needed_items(part))


def _needed_items(part: Schema) -> list[object]:
    """Return the schemas of the items that an array must have."""
    items, least = part.get("items", True), part.get("minItems", 0)
    first = items if isinstance(items, list) else _listed(part, "prefixItems")
    rest = part.get("additionalItems", True) if isinstance(items, list) else items
    if not isinstance(least, int) or least <= len(first):
        return first[: least if isinstance(least, int) else 0]
    return [*first, rest]


def _listed(part: Schema, key: str) -> list[object]:
    value = part.get(key, [])
    return value if isinstance(value, list) else []


def _cannot(key: str, path: str, more: str = "", *, hint: str | None = None) -> NoReturn:
    where = f" (at {path})" if path else ""
    _refuse(f"the schema's keyword {key!r}{more} cannot be enforced{where}", hint=hint)


def _refuse(message: str, *, hint: str | None = None) -> NoReturn:
    raise InvalidRequest(message, field="format", hint=hint)
