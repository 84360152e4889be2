"""The names of the samplers, llama.cpp's default order of them, and how a user writes another; free of torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

from ...errors import InvalidRequest

# Name -> its letter in llama.cpp's --sampler-seq, in llama.cpp's default order. Adaptive-p, neutral unless it is
# asked for, draws last wherever it is named.
LETTERS: Final = {
    "penalties": "e",
    "dry": "d",
    "top_n_sigma": "s",
    "top_k": "k",
    "typ_p": "y",
    "top_p": "p",
    "min_p": "m",
    "xtc": "x",
    "temperature": "t",
    "adaptive_p": "a",
}
DEFAULT_ORDER: Final = tuple(LETTERS)

_ALIASES: Final = {
    **{name.replace("_", separator): name for name in LETTERS for separator in ("_", "-", "")},
    "typical_p": "typ_p", "typical-p": "typ_p", "typical": "typ_p", "typ": "typ_p",
    "nucleus": "top_p", "temp": "temperature",
}  # fmt: skip
_BY_LETTER: Final = {letter: name for name, letter in LETTERS.items()}


def parse_samplers(value: object) -> tuple[str, ...]:
    """Read an order: names in a list, names between `;` or `,`, or letters such as `edskypmxt`.

    An empty one runs no sampler at all. Raises InvalidRequest for a name that is unknown or comes twice.
    """
    if isinstance(value, str):
        names = _split(value)
    elif isinstance(value, Iterable):
        names = list(value)
    else:
        raise InvalidRequest(f"samplers must be a list of names, not {value!r}", field="samplers")
    order = tuple(_named(name) for name in names)
    twice = next((name for name in order if order.count(name) > 1), None)
    if twice is not None:
        raise InvalidRequest(f"samplers names {twice} twice", field="samplers")
    return order


def known_samplers(text: str) -> list[str]:
    """Return the names in a model file's order that are known here; newer ones, and those for infill, are not."""
    return [word for word in _split(text) if word.lower() in _ALIASES]


def _split(text: str) -> list[str]:
    words = [word for word in re.split(r"[;,\s]+", text.strip()) if word]
    if (
        len(words) == 1
        and words[0].lower() not in _ALIASES
        and all(letter in _BY_LETTER for letter in words[0])
    ):
        return [_BY_LETTER[letter] for letter in words[0]]
    return words


def _named(name: object) -> str:
    if isinstance(name, str) and name.lower() in _ALIASES:
        return _ALIASES[name.lower()]
    near = difflib.get_close_matches(str(name).lower(), _ALIASES, n=1)
    known = "known samplers: " + ";".join(LETTERS)
    raise InvalidRequest(
        f"unknown sampler {name!r}",
        field="samplers",
        hint=f"did you mean {_ALIASES[near[0]]}?" if near else known,
    )
