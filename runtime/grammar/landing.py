"""The end of a JSON answer for which little room is left: whatever closes comes first, so that it is whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

# What is kept of the room for the answer's end: a part of it, and at most so many tokens.
_SHARE = 4
_MOST = 96
_CLOSERS = ((b"}", b"]"), (b'"',), (b",", b":"))
_DEAR = b"{[\\-"
_LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ -_.:/@!#$%&'()*+,;<=>?[]^`{|}~"
_QUOTE, _BACKSLASH = ord('"'), ord("\\")


def landing_length(room: int) -> int:
    """Return how many of `room` tokens are kept for bringing an answer to its end."""
    return min(_MOST, room // _SHARE)


class Landing:
    """Chooses among the tokens that a grammar allows those that end a JSON value soonest.

    tokens: the bytes of each token; spaces: those that are nothing but white space. Outside of strings a bracket is
    closed where it may be, else a string begins, else what leads to the next value is written, and no value is opened
    where a plain one will do. A string ends as soon as it may; until then it gets one letter after another, so that a
    pattern comes by what it asks for.
    """

    def __init__(self, tokens: Sequence[bytes], spaces: Iterable[int]) -> None:
        size = len(tokens) // 32 + 1
        places = {text: token for token, text in reversed(list(enumerate(tokens))) if len(text) == 1}
        self._closers = [
            _bits((places[text] for text in texts if text in places), size) for texts in _CLOSERS
        ]
        dear = {token for token, text in enumerate(tokens) if text[:1] and text[:1] in _DEAR}
        spaces = set(spaces)
        self._others = (~_bits(spaces | dear, size), ~_bits(spaces, size))
        self._letters = [places[bytes([char])] for char in _LETTERS if bytes([char]) in places]

    def choose(self, words: Tensor, *, in_string: bool, turn: int) -> Tensor:
        """Keep the best of the tokens that `words` allows, one bit each; changes it in place.

        turn: how many letters the string has got here, so that they differ.
        """
        for wanted in (self._closers[1],) if in_string else (*self._closers, *self._others):
            size = min(words.numel(), wanted.numel())
            kept = words[:size] & wanted[:size]
            if kept.any():
                words.zero_()
                words[:size] = kept
                return words
        if in_string:
            count = len(self._letters)
            for token in (self._letters[(turn + step) % count] for step in range(count)):
                if int(words[token >> 5]) >> (token & 31) & 1:
                    return words.copy_(_bits([token], words.numel()))
        return words


class StringState:
    """Whether a JSON text is within a string, followed byte by byte."""

    def __init__(self) -> None:
        self.is_open = False
        self._is_escaped = False

    def feed(self, piece: bytes) -> None:
        """Go on by some bytes."""
        for byte in piece:
            if self._is_escaped:
                self._is_escaped = False
            elif byte == _QUOTE:
                self.is_open = not self.is_open
            elif self.is_open and byte == _BACKSLASH:
                self._is_escaped = True


def _bits(tokens: Iterable[int], size: int) -> Tensor:
    octets = bytearray(size * 4)
    for token in tokens:
        octets[token >> 3] |= 1 << (token & 7)
    return torch.frombuffer(octets, dtype=torch.int32)
