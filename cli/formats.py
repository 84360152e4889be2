"""Sizes, numbers, times and tables as text, by Ollama's rules; and bits per weight in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from ..models.checkpoint.summary import human_number as human_number

_SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))

# From how many bits per weight on, and what answers lose against the weights as trained. The steps
# follow published perplexities of 7B models; small models lose more.
_LOSSES = (
    (15.5, "as trained"),
    (7.9, "no measurable loss"),
    (6.0, "hardly any loss"),
    (5.2, "very small loss"),
    (4.4, "small loss"),
    (3.7, "noticeable loss"),
    (2.9, "large loss"),
    (0.0, "very large loss"),
)


def human_bytes(count: int) -> str:
    """Write a size in decimal units: `637 MB`, `4.7 GB`."""
    for unit, suffix in _SIZES:
        if count >= unit:
            value = count / unit
            whole = value >= 10 or value == math.trunc(value)
            return f"{math.trunc(value)} {suffix}" if whole else f"{value:.1f} {suffix}"
    return f"{count} B"


def human_duration(seconds: float) -> str:
    """Write a span of time roughly: `About a minute`, `3 hours`."""
    minutes, hours = int(seconds / 60), math.floor(seconds / 3600 + 0.5)
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if int(seconds) == 1 else f"{int(seconds)} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    if hours < 24 * 14:
        return f"{hours // 24} days"
    if hours < 24 * 60:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def human_time(moment: datetime, now: datetime | None = None) -> str:
    """Write how long ago a moment was: `2 hours ago`."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return human_duration(seconds) + " ago" if seconds >= 0 else human_duration(-seconds) + " from now"


def bits_in_words(bits: float) -> str:
    """Say what so many bits per weight mean: `4.85 bits per weight: small loss`."""
    loss = next(words for least, words in _LOSSES if bits >= least)
    return f"{bits:.2f} bits per weight: {loss}"


def columns(rows: Sequence[Sequence[str]], gap: str = "    ") -> list[str]:
    """Align cells to the left; rows may differ in length."""
    count = max((len(row) for row in rows), default=0)
    widths = [max(len(row[i]) if i < len(row) else 0 for row in rows) for i in range(count)]
    return [
        gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows
    ]


def printable(text: str) -> str:
    """Return text for one line of a terminal: line breaks and other control characters are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    code = ord(character)
    return short.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}")
