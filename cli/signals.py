"""How a signal ends a command: in order through every `with`, or at once where that is impossible."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

HUNG_UP, INTERRUPTED, TERMINATED = 129, 130, 143
"""Exit codes: what a shell reports for the three signals."""

SIGNALLED = (HUNG_UP, INTERRUPTED, TERMINATED)

_CODES = {signal.SIGHUP: HUNG_UP, signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


def end_in_order() -> None:
    """Let SIGTERM and SIGHUP raise SystemExit, as SIGINT raises KeyboardInterrupt; a second one ends at once."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        # nohup has a command ignore SIGHUP.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)


def end_anywhere() -> None:
    """Let the signals simply end the process: nothing is left to clean up."""
    for number in _heeded():
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def ending_at_once(clean_up: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Exit within a signal's handler. For imports: some of other people's swallow a KeyboardInterrupt."""

    def end(number: int, frame: object) -> NoReturn:
        clean_up()
        os._exit(_CODES[signal.Signals(number)])

    before = {number: signal.signal(number, end) for number in _heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupting(instead: Callable[[], bool]) -> Iterator[None]:
    """Let Ctrl-C call a function first; only where that returns False it interrupts as ever.

    Signals are the main thread's: elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        if not instead():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _heeded() -> list[signal.Signals]:
    return [number for number in _CODES if signal.getsignal(number) is not signal.SIG_IGN]


def _terminate(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(_CODES[signal.Signals(number)])
