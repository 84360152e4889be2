"""One line on stderr that says how far a long wait has come; it erases itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .formats import human_bytes, human_number
from .terminal import Terminal

_BAR, _LEAST_BAR = 20, 5  # columns
_APPEARS_AFTER, _EVERY = 0.5, 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Unit:
    """How to write a count of what is waited for, and its rate."""

    amounts: Callable[[int, int], str]
    rate: Callable[[float], str]


BYTES = Unit(
    lambda done, total: f"{human_bytes(done)} of {human_bytes(total)}",
    lambda rate: f"{human_bytes(int(rate))}/s",
)
WEIGHTS = Unit(
    lambda done, total: f"{human_number(done)} of {human_number(total)} weights",
    lambda rate: f"{human_number(int(rate))}/s",
)
TOKENS = Unit(
    lambda done, total: f"{done:,}/{total:,} tokens",
    lambda rate: f"{human_number(int(rate))} tokens/s",
)


class ProgressLine:
    """A bar with amounts, rate and the time left, once half a second has gone by; silent off a terminal."""

    def __init__(
        self,
        terminal: Terminal,
        label: str,
        unit: Unit,
        *,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terminal = terminal
        self._label = label
        self._unit = unit
        self._enabled = enabled and terminal.err_is_tty
        self._clock = clock
        self._started = self._last = clock()
        self._first: tuple[int, float] | None = None
        self._shown = 0

    def announce(self) -> None:
        """Show the label at once, before the first count."""
        self._write(f"{self._label} ...")

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` is done."""
        now = self._clock()
        if self._first is None:
            # What was there at once (a cached prefix) says nothing about the speed.
            self._first = done, now
        if not self._enabled or now - self._started < _APPEARS_AFTER or now - self._last < _EVERY:
            return
        self._last = now
        self._write(self._line(done, total, self._rate(done, now)))

    def clear(self) -> None:
        """Erase the line."""
        if self._shown:
            self._terminal.err.write("\r" + " " * self._shown + "\r")
            self._terminal.err.flush()
            self._shown = 0

    def _rate(self, done: int, now: float) -> float:
        first, since = self._first or (done, now)
        return (done - first) / (now - since) if now > since else 0.0

    def _line(self, done: int, total: int, rate: float) -> str:
        """Return as much as the terminal has room for: first the texts, then as much of a bar."""
        share = min(1.0, done / total) if total else 1.0
        head, texts = f"{self._label} {share:4.0%}", [self._unit.amounts(done, total)]
        if rate > 0:
            texts += [self._unit.rate(rate), f"{clock_text((total - done) / rate)} left"]
        room, tail = self._terminal.width - 1 - len(head), ""
        for text in texts:
            if len(tail) + 2 + len(text) > room:
                break
            tail += "  " + text
        columns = min(_BAR, room - len(tail) - len("  []"))
        if columns < _LEAST_BAR:
            return head + tail
        return f"{head}  [{'#' * int(share * columns):<{columns}}]{tail}"

    def _write(self, line: str) -> None:
        if not self._enabled:
            return
        line = line[: max(0, self._terminal.width - 1)]
        # Blanks instead of an escape sequence: they erase on every terminal.
        self._terminal.err.write("\r" + line + " " * max(0, self._shown - len(line)))
        self._terminal.err.flush()
        self._shown = max(self._shown, len(line))


def clock_text(seconds: float) -> str:
    """Write a span of time as on a clock: `0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
