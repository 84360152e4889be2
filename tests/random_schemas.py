"""Random JSON schemas of what is enforced, from a seed."""

from __future__ import annotations

import random

Schema = dict[str, object]

NAMES = ["a", "b", "name", "x y", "é", 'q"', "tags"]
PATTERNS = ["^[a-z]{2,5}$", "^(?:red|green)-[0-9]+$", "b", "^\\d{3}-\\d{4}$", "^[^x]*$", "x$"]
FORMATS = ["date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"]
CONSTANTS = ["red", "", 'say "hi"\n', "東京 🙂", 0, -7, 2.5, True, False, None, [1, "a"], {"k": [None]}]


def random_schema(rng: random.Random) -> Schema:
    """Return a schema; one in five refers to definitions, some of which contain themselves."""
    if rng.random() < 0.8:
        return _schema(rng, 3, [])
    names = ["node", "leaf"]
    node: Schema = {
        "type": "object",
        "properties": {
            "value": _leaf(rng),
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            "more": {"type": "array", "items": {"$ref": "#/$defs/leaf"}, "maxItems": rng.randint(0, 2)},
        },
        "required": ["value", "next"],
        "additionalProperties": False,
    }
    return {**_schema(rng, 2, names), "$defs": {"node": node, "leaf": _leaf(rng)}}


def _schema(rng: random.Random, depth: int, names: list[str]) -> Schema:
    kinds = ["leaf", "leaf", "enum"]
    if depth:
        kinds += ["object", "object", "object", "array", "array", "tuple", "anyOf", "allOf", "nullable"]
    if names:
        kinds += ["ref", "ref"]
    kind = rng.choice(kinds)
    if kind == "object":
        return _object(rng, depth, names)
    if kind == "array":
        least = rng.randint(0, 2)
        items = _schema(rng, depth - 1, names)
        return {"type": "array", "items": items, "minItems": least, "maxItems": least + rng.randint(0, 2)}
    if kind == "tuple":
        parts = [_schema(rng, depth - 1, names) for _ in range(rng.randint(1, 3))]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}
    if kind == "anyOf":
        return {"anyOf": [_schema(rng, depth - 1, names) for _ in range(rng.randint(1, 3))]}
    if kind == "allOf":
        return {
            "allOf": [{"type": "string", "minLength": rng.randint(0, 2)}, {"maxLength": rng.randint(2, 6)}]
        }
    if kind == "nullable":
        return {"type": ["integer", "null"], "minimum": rng.randint(-5, 5)}
    if kind == "enum":
        return {"enum": rng.sample(CONSTANTS, rng.randint(1, 4))}
    return {"$ref": f"#/$defs/{rng.choice(names)}"} if kind == "ref" else _leaf(rng)


def _object(rng: random.Random, depth: int, names: list[str]) -> Schema:
    keys = rng.sample(NAMES, rng.randint(0, 4))
    schema: Schema = {
        "type": "object",
        "properties": {key: _schema(rng, depth - 1, names) for key in keys},
        "required": [key for key in keys if rng.random() < 0.5],
    }
    rest = rng.random()
    if rest < 0.6:
        schema["additionalProperties"] = False
        if keys and rng.random() < 0.3:
            schema["minProperties"] = rng.randint(1, len(keys))
    elif rest < 0.8:
        schema["additionalProperties"] = _leaf(rng)
        schema["maxProperties"] = len(keys) + 2
    else:
        schema["patternProperties"] = {"^k[0-9]+$": _leaf(rng)}
        schema["additionalProperties"] = False
    return schema


def _leaf(rng: random.Random) -> Schema:
    kind = rng.choice(
        ["string", "pattern", "format", "integer", "number", "multiple", "boolean", "null", "const"]
    )
    if kind == "string":
        least = rng.randint(0, 4)
        return {"type": "string", "minLength": least, "maxLength": least + rng.randint(0, 12)}
    if kind == "pattern":
        return {"type": "string", "pattern": rng.choice(PATTERNS)}
    if kind == "format":
        return {"type": "string", "format": rng.choice(FORMATS)}
    if kind == "integer":
        least = rng.randint(-300, 300)
        bound = rng.choice(["minimum", "exclusiveMinimum"])
        return {"type": "integer", bound: least, "maximum": least + rng.randint(2, 1000)}
    if kind == "number":
        least = rng.randint(-30, 30) / 4
        bound = rng.choice(["maximum", "exclusiveMaximum"])
        return {"type": "number", "minimum": least, bound: least + rng.randint(1, 100) / 8}
    if kind == "multiple":
        return {"type": "integer", "multipleOf": rng.randint(1, 12), "minimum": 0, "maximum": 10_000}
    return {"const": rng.choice(CONSTANTS)} if kind == "const" else {"type": kind}
