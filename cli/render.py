"""Events to the terminal: the answer to stdout, thoughts dim to stderr, how far a long prompt is read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from ..chat.stream import Done, Event, Progress, Reasoning, Text, ToolCallEvent
from .progress import TOKENS, ProgressLine
from .terminal import DIM, PLAIN, ScreenFilter, Terminal

_NOTE = "thinking..."


class Renderer:
    """Shows one reply as it arrives; close() leaves the terminal as it was found, however the reply ended.

        WAITING ──Reasoning──► THINKING ──Text──► ANSWERING
           └────────────────Text─────────────────────►┘

    Where a thought cannot be dimmed and shares the screen with the answer, it stands between two lines that
    say so. Text is cleaned of control characters for a terminal only; a pipe gets it as it is.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        hide_thinking: bool = False,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terminal = terminal
        self._hides = hide_thinking
        self._progress = ProgressLine(terminal, "reading", TOKENS, enabled=not quiet, clock=clock)
        self._marks = terminal.err_is_tty and not terminal.color and not hide_thinking
        self._out_filter = ScreenFilter() if terminal.out_is_tty else None
        self._err_filter = ScreenFilter() if terminal.err_is_tty else None
        self._is_thinking = False
        self._thought_end = self._answer_end = ""  # the last character written of each

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Progress):
            self._progress.update(event.done, event.total)
            return
        self._progress.clear()
        if isinstance(event, Reasoning):
            self._think(event.text)
        elif isinstance(event, Text):
            self._end_thought()
            self._answer(event.text)
        elif isinstance(event, ToolCallEvent):
            self._end_thought()
            arguments = json.dumps(dict(event.call.arguments), ensure_ascii=False)
            self._answer(f"{event.call.name}({arguments})\n")
        elif isinstance(event, Done):
            self.close()

    def close(self) -> None:
        """End whatever is open: the progress, the dimming, the last line."""
        self._progress.clear()
        self._end_thought()
        if self._answer_end not in ("", "\n"):
            self._answer("\n")

    def _think(self, text: str) -> None:
        if self._err_filter is not None:
            text = self._err_filter.feed(text)
        if not self._is_thinking:
            self._is_thinking = True
            if self._answer_end not in ("", "\n"):
                self._answer("\n")
            self._begin_thought()
        if not self._hides and text:
            self._write_err(text)
            self._thought_end = text[-1]

    def _begin_thought(self) -> None:
        if self._hides:
            if self._terminal.err_is_tty:
                self._write_err(self._terminal.dim(_NOTE))
        elif self._terminal.dims:
            self._write_err(DIM)
        elif self._marks:
            self._write_err("Thinking...\n")

    def _end_thought(self) -> None:
        """Set the thought apart from what follows by a blank line."""
        if not self._is_thinking:
            return
        self._is_thinking = False
        if self._hides:
            if self._terminal.err_is_tty:
                self._write_err("\r" + " " * len(_NOTE) + "\r")
            return
        end = PLAIN if self._terminal.dims else ""
        end += "" if self._thought_end == "\n" else "\n"
        self._write_err(end + ("...done thinking.\n\n" if self._marks else "\n"))

    def _answer(self, text: str) -> None:
        if self._out_filter is not None:
            text = self._out_filter.feed(text)
        if text:
            self._terminal.out.write(text)
            self._terminal.out.flush()
            self._answer_end = text[-1]

    def _write_err(self, text: str) -> None:
        self._terminal.err.write(text)
        self._terminal.err.flush()
