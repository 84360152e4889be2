"""How SIGINT and SIGTERM end a command: in order through every `with`, or at once where that is impossible."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes: what a shell reports for the two signals."""


def end_in_order() -> None:
    """Let SIGTERM raise SystemExit, as SIGINT raises KeyboardInterrupt; a second SIGTERM ends at once."""
    signal.signal(signal.SIGTERM, _terminate)


def end_anywhere() -> None:
    """Let both signals simply end the process: nothing is left to clean up."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def ending_at_once(clean_up: Callable[[], None]) -> Iterator[None]:
    """Exit within a signal's handler. For imports: some of other people's swallow a KeyboardInterrupt."""
    codes = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}

    def end(number: int, frame: object) -> NoReturn:
        clean_up()
        os._exit(codes[signal.Signals(number)])

    before = {number: signal.signal(number, end) for number in codes}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise SystemExit(TERMINATED)
