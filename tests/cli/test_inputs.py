"""What is read from outside: all of it, only so much, and only as text."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from mull.cli import inputs
from mull.errors import InvalidRequest


def test_all_of_a_stream_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_PIECE", 2)
    assert inputs.read_all(io.BytesIO(b"abcde"), "it") == b"abcde"
    assert inputs.read_all(io.BytesIO(b""), "it") == b""


def test_a_stream_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_MOST", 2 << 20)
    with open("/dev/zero", "rb") as stream, pytest.raises(InvalidRequest, match="it is longer than 2 MiB"):
        inputs.read_all(stream, "it")


def test_reading_a_stream_without_end_can_be_interrupted() -> None:
    program = (
        "import signal, sys\nfrom mull.cli import inputs\n"
        "inputs._MOST = 1 << 62\ninputs._PIECE = 1 << 12\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.2)\n"
        "signal.signal(signal.SIGALRM, lambda *_: sys.exit(3))\n"
        "inputs.read_stdin()\n"
    )
    with open("/dev/zero", "rb") as endless:
        done = subprocess.run([sys.executable, "-c", program], stdin=endless, timeout=60)
    assert done.returncode == 3
