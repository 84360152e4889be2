"""Our own dialect: requests and events as JSON and back, exactly; for the command line that asks a server."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ... import errors
from ...chat.request import ChatRequest
from ...chat.stream import (
    Done,
    Event,
    Progress,
    Reasoning,
    Text,
    ToolArguments,
    ToolCallBegin,
    ToolCallEvent,
)
from ...errors import InvalidRequest, MullError
from .option_values import read_option

Json = dict[str, object]
T = TypeVar("T")

_EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (Progress, Text, Reasoning, ToolCallBegin, ToolArguments, ToolCallEvent, Done)
}


class Chunks:
    """A reply as our events."""

    def feed(self, event: Event) -> list[Json]:
        """Return the object for an event."""
        return [event_json(event)]

    def fail(self, failure: MullError) -> list[Json]:
        """Return the object for an error."""
        return [error(failure)]


def event_json(event: Event) -> Json:
    """Return an event as JSON, under the name of its kind."""
    return {type(event).__name__: to_plain(event)}


def read_event(value: Mapping[str, object]) -> Event:
    """Read what event_json wrote; raises the error that stands in an event's place."""
    if "error" in value:
        raise read_error(value)
    (kind, content), *_ = value.items()
    return from_plain(_EVENTS[kind], content, kind)


def request_json(request: ChatRequest) -> Json:
    """Return a request as JSON; fields at their defaults are left out."""
    value = to_plain(request)
    assert isinstance(value, dict)
    return value


def read_request(value: object) -> ChatRequest:
    """Read what request_json wrote; raises InvalidRequest that names what is wrong."""
    request = from_plain(ChatRequest, value, "request")
    options = {
        name: each if each is None else read_option(name, each, f"request.options.{name}")
        for name, each in request.options.items()
    }
    return replace(request, options=options)


def error(failure: MullError) -> Json:
    """Return the body that tells of an error."""
    kind = type(failure).__name__
    return {
        "error": {
            "kind": kind,
            "message": failure.message,
            "hint": failure.hint,
            "status": failure.status,
        }
    }


def read_error(value: Mapping[str, object]) -> MullError:
    """Return the error that a body tells of, of our own kind if it is one."""
    told = value.get("error")
    if not isinstance(told, Mapping):
        return MullError(f"the server failed: {str(told)[:200]}")
    message, hint = str(told.get("message")), told.get("hint")
    found = getattr(errors, str(told.get("kind")), None)
    kind = found if isinstance(found, type) and issubclass(found, MullError) else MullError
    return kind(message, hint=hint if isinstance(hint, str) else None)


def to_plain(value: object) -> object:
    """Return a value of dataclasses, mappings, sequences and scalars as what JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        plain = {}
        for field in fields(value):
            content = getattr(value, field.name)
            if field.default is MISSING or content != field.default:
                plain[field.name] = to_plain(content)
        return plain
    if isinstance(value, Mapping):
        return {str(name): to_plain(content) for name, content in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(content) for content in value]
    return value


def from_plain(kind: type[T], value: object, where: str) -> T:
    """Read a value of one type from JSON; raises InvalidRequest that says where it does not fit."""
    return cast("T", _read(kind, value, where))


def _read(kind: object, value: object, where: str) -> object:
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _read_dataclass(kind, value, where)
    if origin in (Union, types.UnionType):
        return _read_union(parts, value, where)
    if origin is Literal:
        return value if value in parts else _refuse(where, f"one of {', '.join(map(str, parts))}")
    if origin is tuple:
        if not isinstance(value, list):
            _refuse(where, "a list")
        each = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        if len(each) != len(value):
            _refuse(where, f"a list of {len(each)}")
        return tuple(
            _read(part, item, f"{where}.{i}") for i, (part, item) in enumerate(zip(each, value, strict=True))
        )
    if origin is not None and issubclass(origin, Mapping):
        return value if isinstance(value, dict) else _refuse(where, "an object")
    if kind is object:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    assert isinstance(kind, type)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        _refuse(where, {str: "a text", int: "a whole number", bool: "true or false"}.get(kind, "a number"))
    return value


def _read_dataclass(kind: type, value: object, where: str) -> object:
    if not isinstance(value, dict):
        _refuse(where, "an object")
    hints = _hints(kind)
    unknown = next((name for name in value if name not in hints), None)
    if unknown is not None:
        raise InvalidRequest(f"{where} has no field {unknown[:60]!r}", field=where)
    given = {name: _read(hints[name], content, f"{where}.{name}") for name, content in value.items()}
    try:
        return kind(**given)
    except TypeError:
        raise InvalidRequest(f"{where} lacks a field", field=where) from None


def _read_union(parts: tuple[object, ...], value: object, where: str) -> object:
    """Read one of several types: null, or the first that fits."""
    if value is None and type(None) in parts:
        return None
    candidates = [part for part in parts if part is not type(None)]
    for part in candidates[:-1]:
        try:
            return _read(part, value, where)
        except InvalidRequest:
            continue
    return _read(candidates[-1], value, where)


@cache
def _hints(kind: type) -> dict[str, object]:
    return get_type_hints(kind)


def _refuse(where: str, wanted: str) -> NoReturn:
    raise InvalidRequest(f"{where} must be {wanted}", field=where)
