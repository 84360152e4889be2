"""Reads SentencePiece's `tokenizer.model`: a small reader of the parts of its protocol buffer that matter."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...errors import TokenizerError
from .token_types import NORMAL

UNIGRAM, BPE = 1, 2

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(slots=True)
class ModelProto:
    """A SentencePiece model, with the format's own defaults."""

    texts: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: bytearray = field(default_factory=bytearray)
    model_type: int = UNIGRAM
    bos_id: int = 1
    eos_id: int = 2
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    whitespace_as_suffix: bool = False


def read_model_proto(data: bytes) -> ModelProto:
    """Parse the bytes of a `tokenizer.model`; raise TokenizerError if they are none."""
    try:
        return _read(data)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError, ValueError):
        raise TokenizerError(
            "tokenizer.model is no SentencePiece model",
            hint="a tokenizer.json beside it would be read instead",
        ) from None


def _read(data: bytes) -> ModelProto:
    model = ModelProto()
    for number, value in _entries(data):
        if number == 1:
            _add_piece(model, _bytes(value))
        elif number == 2:
            _read_trainer(model, _bytes(value))
        elif number == 3:
            _read_normalizer(model, _bytes(value))
    if not model.texts:
        raise ValueError("no pieces")
    return model


def _add_piece(model: ModelProto, data: bytes) -> None:
    text, score, kind = "", 0.0, NORMAL
    for number, value in _entries(data):
        if number == 1:
            text = _bytes(value).decode()
        elif number == 2:
            (score,) = struct.unpack("<f", _bytes(value))
        elif number == 3:
            kind = _number(value)
    model.texts.append(text)
    model.scores.append(score)
    model.types.append(kind)


def _read_trainer(model: ModelProto, data: bytes) -> None:
    for number, value in _entries(data):
        if number == 3:
            model.model_type = _number(value)
        elif number == 24:
            model.whitespace_as_suffix = bool(value)
        elif number == 41:
            model.bos_id = _number(value)
        elif number == 42:
            model.eos_id = _number(value)


def _read_normalizer(model: ModelProto, data: bytes) -> None:
    for number, value in _entries(data):
        if number == 2:
            model.charsmap = _bytes(value)
        elif number == 3:
            model.add_dummy_prefix = bool(value)
        elif number == 4:
            model.remove_extra_whitespaces = bool(value)


def _entries(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of one message; fixed-size values stay bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == _LENGTH:
            size, at = _varint(data, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError("unknown wire type")
        if at + size > len(data):
            raise IndexError("past the end")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("endless number")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a number where bytes belong")
    return value


def _number(value: int | bytes) -> int:
    """Return a signed 32-bit number, which the wire keeps as 64 bits."""
    if not isinstance(value, int):
        raise TypeError("bytes where a number belongs")
    return value - (1 << 64) if value >> 63 else value
