"""Metadata values with GGUF's types, and their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from struct import error as StructError

from ...errors import InvalidRequest


class ValueType(IntEnum):
    """The types of metadata values, by their numbers in the file."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_CODES = {
    ValueType.UINT8: "B",
    ValueType.INT8: "b",
    ValueType.UINT16: "H",
    ValueType.INT16: "h",
    ValueType.UINT32: "I",
    ValueType.INT32: "i",
    ValueType.FLOAT32: "f",
    ValueType.BOOL: "?",
    ValueType.UINT64: "Q",
    ValueType.INT64: "q",
    ValueType.FLOAT64: "d",
}
_U32, _U64 = Struct("<I"), Struct("<Q")


@dataclass(frozen=True, slots=True)
class Typed:
    """A value and its type; `items` is the type of an array's elements."""

    value: object
    kind: ValueType
    items: ValueType | None = None


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A value's bytes as another file holds them, which keeps every type and every byte of a string."""

    kind: int
    data: bytes


Value = Typed | Verbatim | str | bool | int | float | Sequence[str] | Sequence[int] | Sequence[float]
"""What may be written; a plain value gets the type that most of GGUF's keys of its kind have."""


def encode_string(text: str | bytes) -> bytes:
    """Return a string as GGUF stores it: its length, then its UTF-8 bytes."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return _U64.pack(len(data)) + data


def encode_pair(key: str, value: Value) -> bytes:
    """Return a whole metadata pair; raise InvalidRequest for a value that its type cannot hold."""
    if isinstance(value, Verbatim):
        return encode_string(key) + _U32.pack(value.kind) + value.data
    typed = value if isinstance(value, Typed) else typed_like(value)
    try:
        return encode_string(key) + _U32.pack(typed.kind) + _encode(typed)
    except (StructError, TypeError, ValueError, AttributeError, OverflowError):
        shown = repr(typed.value)
        shown = shown if len(shown) < 60 else shown[:57] + "..."
        raise InvalidRequest(f"the metadata value {key} cannot be {typed.kind.name}: {shown}") from None


def typed_like(value: object) -> Typed:
    """Give a plain value a type: UINT32 where it fits, FLOAT32, INT32 in arrays."""
    if isinstance(value, str):
        return Typed(value, ValueType.STRING)
    if isinstance(value, bool):
        return Typed(value, ValueType.BOOL)
    if isinstance(value, int):
        small = ValueType.UINT32 if value >= 0 else ValueType.INT32
        fits = -(1 << 31) <= value < 1 << 32
        return Typed(value, small if fits else ValueType.UINT64 if value > 0 else ValueType.INT64)
    if isinstance(value, float):
        return Typed(value, ValueType.FLOAT32)
    if isinstance(value, Sequence):
        first = typed_like(value[0]).kind if value else ValueType.STRING
        items = ValueType.INT32 if first is ValueType.UINT32 else first
        return Typed(value, ValueType.ARRAY, items)
    raise InvalidRequest(f"metadata cannot hold a {type(value).__name__}")


def _encode(typed: Typed) -> bytes:
    if typed.kind is not ValueType.ARRAY:
        return _scalar(typed.value, typed.kind)
    items = typed.items
    if items is None or not isinstance(typed.value, Sequence):
        raise TypeError("an array of unknown type")
    head = _U32.pack(items) + _U64.pack(len(typed.value))
    if items is ValueType.ARRAY:
        return head + b"".join(_encode(typed_like(inner)) for inner in typed.value)
    if items is ValueType.STRING:
        return head + b"".join(map(encode_string, typed.value))
    return head + Struct(f"<{len(typed.value)}{_CODES[items]}").pack(*typed.value)


def _scalar(value: object, kind: ValueType) -> bytes:
    if kind is ValueType.STRING:
        if not isinstance(value, (str, bytes)):
            raise TypeError("not a text")
        return encode_string(value)
    return Struct("<" + _CODES[kind]).pack(value)
