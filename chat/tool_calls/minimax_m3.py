"""MiniMax M3's calls: tags within tags, each behind a mark of its own."""

from __future__ import annotations

from .calls import Calls
from .reader import BadCall, Reader, Step
from .syntax import Syntax
from .tagged import Arguments, Tag, read_tagged_value
from .types import TEXT, Schema, argument, typed, types_of

_MARK = "]<]minimax[>["
_DEEPEST = 50
_LONGEST_VALUE = 10_000_000
_INVOKE = Tag(f"{_MARK}<invoke", ">", f"{_MARK}</invoke>")


def _read(reader: Reader, calls: Calls, opened: str) -> Step[None]:
    is_first = True
    while True:
        yield from reader.space()
        if not (yield from reader.optional(_INVOKE.open)):
            break
        yield from _read_call(reader, calls)
        is_first = False
    if is_first:
        raise BadCall("it is cut off" if reader.is_over else "there is no call")
    yield from reader.optional(f"{_MARK}</tool_call>")


def _read_call(reader: Reader, calls: Calls) -> Step[None]:
    name = _INVOKE.head((yield from reader.until(_INVOKE.end)))["name"].strip()
    calls.begin(name)
    arguments, schema = Arguments(calls, name), calls.schema(name)
    while True:
        yield from reader.space()
        if (yield from reader.optional(_INVOKE.close)):
            break
        yield from reader.expect(f"{_MARK}<")
        key = yield from reader.until(">")
        types = arguments.key(key)
        if types == TEXT:
            yield from read_tagged_value(reader, arguments, types, (f"{_MARK}</{key}>",))
        else:
            arguments.value((yield from _node(reader, argument(schema, key), schema, 0)))
    arguments.end()


def _node(reader: Reader, schema: Schema, root: Schema, depth: int) -> Step[object]:
    """Read what stands within a tag, and the tag that closes it."""
    if depth > _DEEPEST:
        raise BadCall("the arguments nest too deeply")
    text = yield from reader.until(_MARK, most=_LONGEST_VALUE)
    if (yield from reader.optional("</")):
        yield from reader.until(">")
        return typed(text, types_of(schema, root))
    items: list[tuple[str, object]] = []
    while not (yield from reader.optional("</")):
        yield from reader.expect("<")
        key = yield from reader.until(">")
        inner = schema.get("items") if key == "item" else None
        own = inner if isinstance(inner, dict) else argument(schema, key)
        items.append((key, (yield from _node(reader, own, root, depth + 1))))
        yield from reader.space()
        yield from reader.expect(_MARK)
    yield from reader.until(">")
    types = types_of(schema, root)
    if all(key == "item" for key, _ in items) and (types is None or "array" in types):
        return [value for _, value in items]
    return dict(items)


MINIMAX_M3 = Syntax("minimax-m3", (f"{_MARK}<tool_call>",), _read)
