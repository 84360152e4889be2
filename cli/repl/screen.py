"""The lower end of the terminal: lines that stand for good, and below them a few that are still changing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.segment import Segment

Line = list[Segment]

# What stands in for our own signs, and rich's, where the terminal shows ASCII only.
_ASCII = str.maketrans(
    {"•": "*", "▌": "|", "─": "-", "━": "-", "═": "=", "│": "|", "┃": "|", "…": "~", "·": "|", "↩": "<"}
)
# A terminal that knows it shows all that comes between the two at once; others ignore it.
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"
_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"


@dataclass(slots=True)
class Look:
    """What may be sent to the terminal, and how texts are laid out there."""

    color: bool = True
    unicode: bool = True
    markdown: bool = True
    wrap: bool = True


def window_size() -> tuple[int, int]:
    """Return the columns and rows of the terminal now."""
    size = shutil.get_terminal_size((80, 24))
    return max(size.columns, 2), max(size.lines, 2)


class Screen:
    """Writes to a terminal.

    Below what stands for good is a live region of a few rows, which the next update replaces. It never is higher than
    the window, so that moving up always reaches its start. Only rows that differ are written again.
    """

    def __init__(self, out: TextIO, look: Look, size: Callable[[], tuple[int, int]] = window_size) -> None:
        self.look = look
        self.size = size
        self._out = out
        self._rows: list[str] = []  # what the live region shows
        self._hidden = False

    @property
    def width(self) -> int:
        """The columns that a line may fill without the terminal breaking it."""
        return self.size()[0] - 1

    def update(self, finished: Sequence[Line], live: Sequence[Line]) -> None:
        """Let `finished` stand for good, in the place of the live region, and `live` be that region now."""
        height = self.size()[1]
        rows = [self.paint(row) for line in live for row in fold(line, self.width)][-(height - 1) :]
        if not finished and rows == self._rows:
            return
        text = "" if self._hidden or not rows else _HIDE
        self._hidden = self._hidden or bool(rows)
        same = 0 if finished else _common(self._rows, rows)
        text += self._to_row(same)
        for line in finished:
            text += self.paint(line) + "\x1b[K\n"
        text += "\x1b[K\n".join(rows[same:]) + "\x1b[K\x1b[J"
        self._rows = rows
        self._write(_BEGIN + text + _END)

    def say(self, *lines: str, dim: bool = False) -> None:
        """Let lines of text stand for good."""
        self.update([styled(line, dim=dim) for line in lines], [])

    def clear(self) -> None:
        """Erase the live region and show the cursor again."""
        if self._rows:
            self.update([], [])
        if self._hidden:
            self._hidden = False
            self._write(_SHOW)

    def paint(self, line: Line) -> str:
        """Return a line as it is sent to the terminal."""
        look = self.look
        text = ""
        for segment in line:
            piece = segment.text if look.unicode else ascii_only(segment.text)
            if segment.style and look.color:
                piece = segment.style.render(piece, color_system=ColorSystem.STANDARD)
            text += piece
        return text

    def _to_row(self, row: int) -> str:
        """Return what moves the cursor from the live region's end to the start of one of its rows, or below them."""
        if not self._rows:
            return ""
        if row == len(self._rows):
            return "\n"
        up = len(self._rows) - 1 - row
        return "\r" + (f"\x1b[{up}A" if up else "")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def ascii_only(text: str) -> str:
    """Replace our own signs by some that every terminal shows."""
    return text.translate(_ASCII)


def styled(text: str, *, dim: bool = False, style: str = "") -> Line:
    """Return one line of text in one style."""
    from rich.style import Style

    named = "dim" if dim else style
    return [Segment(text, Style.parse(named))] if named else [Segment(text)]


def fold(line: Line, width: int) -> list[Line]:
    """Break a line into rows of at most `width` cells; a row holds one character at least."""
    rows: list[Line] = [[]]
    room = width
    for segment in line:
        text = segment.text
        while text:
            count = _fitting(text, room)
            if not count and not rows[-1]:
                count = 1
            if count:
                rows[-1].append(Segment(text[:count], segment.style))
                room -= cell_len(text[:count])
                text = text[count:]
            if text:
                rows.append([])
                room = width
    return rows


def _fitting(text: str, room: int) -> int:
    """Return how many characters of a text fit into so many cells."""
    if text.isascii() or cell_len(text) <= room:
        return min(len(text), max(room, 0))
    for count, character in enumerate(text):
        room -= cell_len(character)
        if room < 0:
            return count
    return len(text)


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many rows at the top may stay; at least one is left to write, where there is one."""
    count = 0
    while count < min(len(old), len(new)) and old[count] == new[count]:
        count += 1
    return min(count, max(len(new) - 1, 0))
