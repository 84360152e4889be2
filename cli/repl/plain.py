"""Texts as they are, broken between words; and how much of one that is still growing is settled."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment

from .screen import Line, fold

_LONG = 16_384  # characters of a single line that are laid out again and again


def render_plain(text: str, width: int, *, wrap: bool = True, style: str = "") -> list[Line]:
    """Lay a text out in lines; without `wrap` the terminal breaks them where it likes."""
    from rich.style import Style

    named = Style.parse(style) if style else None
    lines: list[Line] = []
    for line in text.expandtabs().split("\n"):
        rows = _broken(line, max(width, 2)) if wrap else [line]
        lines += [[Segment(row, named)] if row else [] for row in rows]
    return lines


def settled_plain(text: str) -> tuple[str, str, bool]:
    """Divide a growing text into whole lines and the rest; the third value: the rest follows without a gap."""
    end = text.rfind("\n") + 1
    return (text[:end], text[end:], True) if end else settled_by_length(text)


def settled_by_length(text: str) -> tuple[str, str, bool]:
    """Divide a text that has become too long to be laid out again and again."""
    if len(text) < _LONG:
        return "", text, False
    at = max(text.rfind("\n", 0, _LONG), text.rfind(" ", 0, _LONG)) + 1 or _LONG
    return text[:at], text[at:], True


def _broken(line: str, width: int) -> list[str]:
    """Break a line between words, and a word that is wider than a line anywhere."""
    if cell_len(line) <= width:
        return [line]
    rows: list[str] = []
    row = ""
    for word in _words(line):
        if row and cell_len(row) + cell_len(word.rstrip()) > width:
            rows.append(row.rstrip())
            row = ""
        if cell_len(word.rstrip()) > width:
            pieces = ["".join(segment.text for segment in piece) for piece in fold([Segment(word)], width)]
            rows += pieces[:-1]
            word = pieces[-1]
        row += word
    return [*rows, row.rstrip()]


def _words(line: str) -> list[str]:
    """Return a line's words, each with the space after it, the first with that before it."""
    words = [""]
    was_space = True
    for character in line:
        is_space = character == " "
        if was_space and not is_space and words[-1].strip():
            words.append("")
        words[-1] += character
        was_space = is_space
    return words
