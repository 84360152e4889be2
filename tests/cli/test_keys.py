"""Keys during a reply: Ctrl-T acts, the terminal is as before afterwards; the first Ctrl-C may do something else."""

from __future__ import annotations

import io
import os
import pty
import signal
import sys
import termios
import threading

import pytest
from mull.cli.keys import CTRL_T, acting_on
from mull.cli.signals import interrupting

_SCRIPT = """
import sys, termios, threading
from mull.cli.keys import CTRL_T, acting_on
def echoes():
    return bool(termios.tcgetattr(0)[3] & termios.ECHO)
pressed = threading.Event()
with acting_on({CTRL_T: pressed.set}):
    print("ready", echoes(), flush=True)
    print("pressed", pressed.wait(60), flush=True)
print("after", echoes(), flush=True)
"""


def test_a_key_acts_and_the_terminal_is_restored() -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", _SCRIPT])
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"xyz\x14")
    try:
        while part := os.read(terminal, 1024):
            shown += part
    except OSError:  # the terminal's other end is closed
        pass
    finally:
        os.waitpid(child, 0)
        os.close(terminal)
    assert shown.decode().split("\r\n")[:3] == ["ready False", "pressed True", "after True"]


def test_without_a_terminal_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\x14"))
    before = threading.active_count()
    with acting_on({CTRL_T: lambda: pytest.fail("no key was pressed")}):
        assert threading.active_count() == before


def test_a_terminal_of_somebody_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is not this process's own would stop it for reading."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        before = termios.tcgetattr(theirs)
        with acting_on({CTRL_T: lambda: None}):
            assert termios.tcgetattr(theirs) == before
    os.close(ours)


def test_the_first_interrupt_acts_and_the_second_interrupts() -> None:
    calls: list[int] = []

    def first() -> bool:
        calls.append(1)
        return len(calls) == 1

    before = signal.getsignal(signal.SIGINT)
    with interrupting(first):
        signal.raise_signal(signal.SIGINT)
        assert calls == [1]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert calls == [1, 1]
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_may_not_handle_signals() -> None:
    entered = []

    def run() -> None:
        with interrupting(lambda: True):
            entered.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert entered == [True]
