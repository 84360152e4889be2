"""Keys that act while a reply is written: the terminal is read without an echo, and restored afterwards."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from .terminal import is_tty

CTRL_T = b"\x14"
_POLL = 0.1  # seconds until the end of a reply is noticed


@contextmanager
def acting_on(keys: Mapping[bytes, Callable[[], object]], *, rest: bytearray | None = None) -> Iterator[None]:
    """Call a key's function when it is pressed; where standard input is no terminal of ours, do nothing.

    Ctrl-C and Ctrl-Z keep their meaning. Other keys are added to `rest`, or dropped.
    """
    fd = _terminal_of_ours()
    if fd is None:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(fd)
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not select.select([fd], [], [], _POLL)[0] or not _is_foreground(fd):
                continue
            for key in os.read(fd, 64):
                action = keys.get(bytes([key]))
                if action is not None:
                    action()
                elif rest is not None:
                    rest.append(key)

    tty.setcbreak(fd, termios.TCSADRAIN)
    watcher = threading.Thread(target=watch, name="mull-keys", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _terminal_of_ours() -> int | None:
    """Return standard input's descriptor, if that is a terminal that this process may read from now."""
    if not is_tty(sys.stdin):
        return None
    try:
        fd = sys.stdin.fileno()
    except OSError:
        return None
    return fd if _is_foreground(fd) else None


def _is_foreground(fd: int) -> bool:
    """Tell whether this process may read from its terminal without being stopped."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
