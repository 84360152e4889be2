"""How much of a model's file its header takes, for who has only the first bytes of it yet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ...errors import CorruptFile
from .bnb import is_described_in_data
from .gguf_header import header_bytes

FIRST = 2 << 20
"""Bytes to begin with: more than most headers take without a vocabulary."""
MOST = 256 << 20
_MOST_JSON = 100_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """The bytes that headers need: the file's first `head`, and ranges (start, end) of what follows them."""

    head: int
    beside: tuple[tuple[int, int], ...] = ()


def wanted(path: Path, head: bytes, size: int) -> Wanted:
    """Return what is needed of a file of `size` bytes, whose first bytes are `head`; ask again until no more is.

    Raises UnknownFormat or CorruptFile for what is no model.
    """
    if not head:
        return Wanted(min(size, FIRST))
    if path.suffix == ".safetensors":
        return _safetensors(path, head, size)
    needed = header_bytes(path, head, size)
    if needed > MOST:
        raise CorruptFile(f"{path.name}: the header takes more than {MOST >> 20} MB")
    return Wanted(needed)


def _safetensors(path: Path, head: bytes, size: int) -> Wanted:
    length = int.from_bytes(head[:8], "little")
    end = 8 + length
    if length > _MOST_JSON or end > size or len(head) < end:
        # What is wrong with such a file, opening it says best.
        return Wanted(0 if length > _MOST_JSON or end > size else end)
    try:
        header = json.loads(head[8:end])
    except (ValueError, RecursionError):
        return Wanted(end)
    found = []
    for name, entry in header.items() if isinstance(header, dict) else ():
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not is_described_in_data(name) or not isinstance(offsets, list):
            continue
        if len(offsets) == 2 and all(type(n) is int and 0 <= n <= size - end for n in offsets):
            found.append((end + offsets[0], end + offsets[1]))
    return Wanted(end, tuple((a, b) for a, b in found if 0 < b - a <= _LARGEST))


_LARGEST = 1 << 16
