"""Calls as they arrive: what reads them, until they are over or prove to be none."""

from __future__ import annotations

from .calls import Calls
from .reader import BadCall, Reader
from .syntax import Syntax


class Reading:
    """Reads what follows one of a syntax's opening texts; `rest` is what comes after the calls.

    error: why it could not be read on; `raw` is then everything since the last whole call.
    """

    def __init__(self, syntax: Syntax, opened: str, calls: Calls, before: str = "") -> None:
        self.error: str | None = None
        self.is_over = False
        self.has_calls = False
        self.opened = opened
        self._before = before
        self._reader = Reader()
        self._steps = syntax.read(self._reader, calls, opened)
        calls.ended = self._mark
        calls.is_open = False

    @property
    def raw(self) -> str:
        """What was read since the last whole call, the opening text and what stood before it included."""
        return self._before + self._reader.raw

    @property
    def rest(self) -> str:
        """What was not read."""
        return self._reader.rest

    def add(self, text: str, *, is_last: bool = False) -> None:
        """Take the next piece."""
        self._reader.add(text)
        self._reader.ended = is_last
        try:
            next(self._steps)
        except StopIteration:
            self.is_over = True
        except BadCall as error:
            self.is_over, self.error = True, f"a tool call cannot be read: {error}"

    def _mark(self) -> None:
        self._before, self.has_calls = "", True
        self._reader.mark()
