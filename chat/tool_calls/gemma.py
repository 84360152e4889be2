"""Gemma's calls: `call:name{key:value,…}`, with texts between marks of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .calls import Calls
from .json_text import next_member
from .reader import BadCall, Reader, Step
from .syntax import Frame, Rules, Syntax, listed
from .types import TEXT, Schema, argument, typed, types_of

_DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Gemma:
    """One way to write the format; quote: what stands around a text, close: what ends a call."""

    quote: str
    close: str

    def read(self, reader: Reader, calls: Calls, opened: str) -> Step[None]:
        """Read one call."""
        yield from reader.space()
        yield from reader.expect("call:")
        name = yield from reader.before("{")
        calls.begin(name)
        schema = calls.schema(name.strip())
        yield from self._object(reader, calls.arguments, (schema, schema), 0)
        calls.end()
        yield from reader.space()
        yield from reader.optional(self.close)

    def _value(
        self, reader: Reader, out: Callable[[str], None], schema: tuple[Schema, Schema], depth: int
    ) -> Step[None]:
        """Read a value; schema: its own, and that which references lead into."""
        if depth > _DEEPEST:
            raise BadCall("the arguments nest too deeply")
        yield from reader.space()
        found = yield from reader.looking(self.quote, "{", "[")
        if found == "{":
            yield from self._object(reader, out, schema, depth)
        elif found == "[":
            yield from self._list(reader, out, schema, depth)
        elif found is not None:
            reader.at += len(found)
            out('"')
            yield from reader.stream(
                lambda piece: out(json.dumps(piece, ensure_ascii=False)[1:-1]), self.quote
            )
            out('"')
        else:
            text = yield from reader.before(",", "}", "]", most=100_000)
            out(json.dumps(typed(text.strip(), types_of(*schema)), ensure_ascii=False))

    def _object(
        self, reader: Reader, out: Callable[[str], None], schema: tuple[Schema, Schema], depth: int
    ) -> Step[None]:
        out((yield from reader.expect("{")))
        is_first = True
        while (yield from next_member(reader, "}", is_first=is_first)):
            if (yield from reader.optional(self.quote)):
                key = yield from reader.until(self.quote)
                yield from reader.space()
            else:
                key = (yield from reader.before(":")).strip().strip('"')
            yield from reader.expect(":")
            out(f"{'' if is_first else ', '}{json.dumps(key, ensure_ascii=False)}: ")
            yield from self._value(reader, out, (_member(*schema, key), schema[1]), depth + 1)
            is_first = False
        out("}")

    def _list(
        self, reader: Reader, out: Callable[[str], None], schema: tuple[Schema, Schema], depth: int
    ) -> Step[None]:
        out((yield from reader.expect("[")))
        items = schema[0].get("items")
        is_first = True
        while (yield from next_member(reader, "]", is_first=is_first)):
            out("" if is_first else ", ")
            inner: Schema = items if isinstance(items, Mapping) else {}
            yield from self._value(reader, out, (inner, schema[1]), depth + 1)
            is_first = False
        out("]")

    def write(self, rules: Rules, tool: str, schema: Schema) -> str:
        """Return the expression of one call, without the texts around it."""
        return f"{rules.text(f'call:{tool}')} {self._write_object(rules, schema, schema, 0)}"

    def _write_object(self, rules: Rules, schema: Schema, root: Schema, depth: int) -> str:
        properties, required = schema.get("properties"), schema.get("required")
        needed = required if isinstance(required, list) else []
        keys = [str(key) for key in properties] if isinstance(properties, Mapping) else []
        parts = {key: self._write_member(rules, schema, root, key, depth) for key in keys}
        must = [part for key, part in parts.items() if key in needed]
        may = [part for key, part in parts.items() if key not in needed]
        return f"{rules.text('{')} {listed(must, may, rules.text(','))} {rules.text('}')}"

    def _write_member(self, rules: Rules, schema: Schema, root: Schema, key: str, depth: int) -> str:
        inner = _member(schema, root, key)
        return f"{rules.text(f'{key}:')} {self._write_value(rules, inner, root, depth + 1)}"

    def _write_value(self, rules: Rules, schema: Schema, root: Schema, depth: int) -> str:
        types = types_of(schema, root)
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        quote = rules.text(self.quote)
        if isinstance(values, list) and types == TEXT:
            texts = (rules.text(f"{self.quote}{value}{self.quote}") for value in values)
            return f"({' | '.join(texts)})"
        if types == TEXT:
            return f"{quote} {rules.up_to(self.quote)}"
        if types == frozenset({"object"}) and isinstance(schema.get("properties"), Mapping) and depth < 8:
            return self._write_object(rules, schema, root, depth)
        if types == frozenset({"array"}) and depth < 8:
            items = schema.get("items")
            item = self._write_value(rules, items if isinstance(items, Mapping) else {}, root, depth + 1)
            return f"{rules.text('[')} ({item} ({rules.text(',')} {item})*)? {rules.text(']')}"
        if types is not None and types <= {"integer", "number", "boolean", "null"}:
            return rules.json(schema, root)
        # Nothing is said of it, or too much: any value that is not nested.
        return f"({quote} {rules.up_to(self.quote)} | {rules.regex(_SCALAR)})"


_SCALAR = "-?[0-9]{1,20}(\\.[0-9]{1,20})?|true|false|null"


def _member(schema: Schema, root: Schema, key: str) -> Schema:
    """Return the schema of one member of an object."""
    return argument(
        {**schema, "$defs": root.get("$defs", {}), "definitions": root.get("definitions", {})}, key
    )


def _syntax(name: str, opening: str, spec: Gemma) -> Syntax:
    return Syntax(
        name,
        (opening,),
        spec.read,
        frame=Frame(opening, f"{spec.close}{opening}", spec.close),
        write=spec.write,
    )


GEMMA4 = _syntax("gemma4", "<|tool_call>", Gemma('<|"|>', "<tool_call|>"))
FUNCTION_GEMMA = _syntax("function-gemma", "<start_function_call>", Gemma("<escape>", "<end_function_call>"))
