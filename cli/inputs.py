"""Reads the texts that users hand over, byte for byte: files, standard input, arguments."""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import InvalidRequest


def read_text(file: Path) -> str:
    """Return a file's text, line ends as they are; raise InvalidRequest unless it is UTF-8."""
    try:
        data = file.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidRequest(f"cannot read {file}: {reason}", field="file") from None
    return as_text(data, str(file))


def read_stdin() -> str:
    """Return all of standard input; raise InvalidRequest unless it is UTF-8."""
    return as_text(sys.stdin.buffer.read(), "standard input")


def read_argument(argument: str) -> str:
    """Return an argument of the command line; raise InvalidRequest unless its bytes were UTF-8."""
    return as_text(argument.encode("utf-8", "surrogateescape"), "the text")


def as_text(data: bytes, source: str) -> str:
    """Decode UTF-8; raise InvalidRequest that names the first wrong byte."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{source} is not UTF-8 text (at byte {error.start})", field="text") from None
