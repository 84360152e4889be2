"""Reads the texts that users hand over, byte for byte: files, standard input, arguments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from ..errors import InvalidRequest

_PIECE = 1 << 20
_MOST = 256 << 20  # bytes; more than any context holds


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
    return as_text(read_all(sys.stdin.buffer, "standard input"), "standard input")


def read_all(stream: BinaryIO, source: str) -> bytes:
    """Return what is left of a stream; raise InvalidRequest for one that has no end in sight."""
    # In pieces: within one read of everything no signal is handled while data keeps coming.
    pieces, nbytes = [], 0
    while piece := stream.read(_PIECE):
        pieces.append(piece)
        nbytes += len(piece)
        if nbytes > _MOST:
            raise InvalidRequest(f"{source} is longer than {_MOST >> 20} MiB", field="text")
    return b"".join(pieces)


def read_argument(argument: str) -> str:
    """Return an argument of the command line; raise InvalidRequest unless its bytes were UTF-8."""
    return as_text(argument.encode("utf-8", "surrogateescape"), "the text")


def as_text(data: bytes, source: str) -> str:
    """Decode UTF-8; raise InvalidRequest that names the first wrong byte."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{source} is not UTF-8 text (at byte {error.start})", field="text") from None
