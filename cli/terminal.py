"""What the screen is: which streams are terminals, how wide, in colour or not; and what may be sent there."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import TextIO

from .formats import printable

DIM, RED, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[0m"
_WIDTH = 80
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where the answer goes (`out`) and where everything else goes (`err`)."""

    out: TextIO
    err: TextIO
    out_is_tty: bool
    err_is_tty: bool
    color: bool

    @classmethod
    def detect(cls, *, color: bool = True) -> Terminal:
        """Describe this process's standard output and error; `color` says whether the user wants any."""
        return cls(sys.stdout, sys.stderr, is_tty(sys.stdout), is_tty(sys.stderr), color)

    @property
    def dims(self) -> bool:
        """Whether text on `err` can be dimmed."""
        return self.err_is_tty and self.color

    @property
    def width(self) -> int:
        """The columns of `err`, where lines that must not wrap are written."""
        try:
            return os.get_terminal_size(self.err.fileno()).columns or _WIDTH
        except (OSError, ValueError):
            return _WIDTH

    def dim(self, text: str) -> str:
        """Return text for `err`, dimmed where that is possible."""
        return f"{DIM}{text}{PLAIN}" if self.dims else text

    def note(self, text: str) -> None:
        """Write a line to `err`."""
        self.err.write(self.dim(text) + "\n")
        self.err.flush()

    def complain(self, message: str, hint: str | None = None) -> None:
        """Write an error and what to do about it, a line each, to `err`."""
        label = f"{RED}error:{PLAIN}" if self.dims else "error:"
        self.err.write(f"{label} {_one_line(message)}\n")
        if hint:
            self.err.write(f"hint: {_one_line(hint)}\n")
        self.err.flush()


def is_tty(stream: TextIO | None) -> bool:
    """Tell whether a stream is an open terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def for_screen(text: str) -> str:
    """Return a text for standard output: without what a terminal would obey if it is one, else unchanged."""
    return ScreenFilter().feed(text) if is_tty(sys.stdout) else text


def _one_line(text: str) -> str:
    """Join lines, and escape what a name from a file could do to the terminal."""
    return printable(" ".join(text.split()))


class ScreenFilter:
    """Takes escape sequences and control characters out of text that a terminal would obey.

        TEXT ──ESC──► ESCAPE ──[──► PARAMETERS ──final byte──► TEXT
                        ├──] P X ^ _──► STRING ──BEL, or ESC and one more──► TEXT
                        └──any other──► TEXT

    A sequence may be cut anywhere between two pieces. A line break ends one that is broken, so that a stray
    ESC hides no more than its line.
    """

    def __init__(self) -> None:
        self._state = ""  # "" in TEXT, else "escape", "parameters", "string" or "string escape"

    def feed(self, text: str) -> str:
        """Take the next piece of text; return what is safe to show."""
        if not self._state and not _CONTROLS.search(text):
            return text
        return "".join(character for character in text if self._keep(character))

    def _keep(self, character: str) -> bool:
        code = ord(character)
        if character == "\n":
            self._state = ""
            return True
        if self._state == "escape":
            if character == "[":
                self._state = "parameters"
            elif character in "]PX^_":
                self._state = "string"
            elif not 0x20 <= code < 0x30:
                self._state = ""
            return False
        if self._state == "parameters":
            if not 0x20 <= code < 0x40:
                self._state = ""
            return False
        if self._state:
            ended = character in "\x07\x9c" or self._state == "string escape"
            self._state = "" if ended else "string escape" if character == "\x1b" else "string"
            return False
        if character == "\x1b":
            self._state = "escape"
        elif character == "\x9b":
            self._state = "parameters"
        elif character in "\x90\x98\x9d\x9e\x9f":
            self._state = "string"
        return not _CONTROLS.match(character)
