"""The tokens of a vocabulary: their texts, their types, and the exact bytes that each one stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from ...models.checkpoint.token_types import BYTE, CONTROL, UNKNOWN, UNUSED, USER_DEFINED, byte_value

# how a normal token is written: GPT-2's byte alphabet, ▁ for a space, or ## for a word that goes on
Spelling = Literal["byte-level", "metaspace", "wordpiece"]


def byte_alphabet() -> dict[str, int]:
    """Return GPT-2's alphabet: the character that stands for each of the 256 bytes."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_ALPHABET = byte_alphabet()


class Vocabulary:
    """Texts and types by token id; a text that several ids share belongs to the last of them."""

    def __init__(self, texts: Sequence[str], types: bytes, spelling: Spelling) -> None:
        self.texts = texts
        self.types = types
        self.spelling = spelling
        self._ids: dict[str, int] = {}
        self._bytes: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def ids(self) -> dict[str, int]:
        """The id of every text."""
        if not self._ids:
            self._ids = dict(zip(self.texts, range(len(self.texts)), strict=True))
        return self._ids

    def with_types(self, types: bytes) -> Vocabulary:
        """Return the same texts under other types."""
        other = Vocabulary(self.texts, types, self.spelling)
        other._ids = self._ids
        return other

    def of_type(self, *types: int) -> Iterable[int]:
        """Yield the ids of all tokens of these types."""
        wanted = b"[" + b"".join(rb"\x%02x" % kind for kind in types) + b"]"
        return (match.start() for match in re.finditer(wanted, self.types, re.DOTALL))

    def token_type(self, token_id: int) -> int:
        """Return a token's type; ids past the list (padded embeddings) are unused."""
        return self.types[token_id] if 0 <= token_id < len(self.types) else UNUSED

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes a token stands for: none for unused ids, the text itself for special tokens."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._spell(token_id)
        return known

    def _spell(self, token_id: int) -> bytes:
        kind = self.token_type(token_id)
        if kind == UNUSED:
            return b""
        text = self.texts[token_id]
        if kind in (UNKNOWN, CONTROL, USER_DEFINED):
            return _utf8(text)
        if kind == BYTE and (byte := byte_value(text)) is not None:
            return bytes((byte,))
        if self.spelling == "metaspace":
            return _utf8(text.replace("▁", " "))
        if self.spelling == "wordpiece":
            return _utf8(text[2:] if text.startswith("##") else " " + text)
        try:
            return bytes(_ALPHABET[char] for char in text)
        except KeyError:
            return _utf8(text)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
