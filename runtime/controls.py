"""Stop strings: text is held back while it may be the beginning of one, and cut exactly where one begins.

Text counts character by character, so how it was split into tokens never matters: the first stop string to be
complete wins; of several complete at the same character, the longest.
"""

from __future__ import annotations

from typing import Protocol


class TextStreamLike(Protocol):
    """Turns ids into text, whole characters at a time."""

    def feed(self, token: int) -> str:
        """Return the text that this token completes; maybe none."""

    def flush(self) -> str:
        """Return what is left, half a character included."""


class _Matcher:
    """How much of one stop string the text ends with (Knuth, Morris, Pratt)."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.matched = 0
        # _borders[i]: the longest proper beginning of pattern[:i + 1] that also ends it.
        self._borders = [0]
        for char in pattern[1:]:
            self._borders.append(self._next(self._borders[-1], char))

    def feed(self, char: str) -> bool:
        """Move on by one character; tell whether the text now ends with the stop string."""
        self.matched = self._next(self.matched, char)
        return self.matched == len(self.pattern)

    def _next(self, matched: int, char: str) -> int:
        while matched and self.pattern[matched] != char:
            matched = self._borders[matched - 1]
        return matched + (self.pattern[matched] == char)


class StopText:
    """A sequence's text on its way out; after a stop string, `stopped_by`, no text follows."""

    def __init__(self, stream: TextStreamLike, stop: tuple[str, ...] = ()) -> None:
        self.stopped_by: str | None = None
        self._stream = stream
        self._matchers = [_Matcher(pattern) for pattern in stop]
        self._held = ""

    @property
    def is_stopped(self) -> bool:
        """Tell whether a stop string has come."""
        return self.stopped_by is not None

    def feed(self, token: int, *, is_answer: bool = True) -> str:
        """Return the text that is certain now; what is no answer neither stops the reply nor begins what does."""
        text = self._stream.feed(token)
        if is_answer or self.is_stopped:
            return self._scan(text)
        text, self._held = self._held + text, ""
        for matcher in self._matchers:
            matcher.matched = 0
        return text

    def finish(self) -> str:
        """Return what is still held back: no stop string can be completed any more."""
        text = self._scan(self._stream.flush())
        text, self._held = text + self._held, ""
        return text

    def _scan(self, text: str) -> str:
        if self.is_stopped:
            return ""
        if not self._matchers:
            return text
        text = self._held + text
        for end in range(len(self._held), len(text)):
            complete = [m.pattern for m in self._matchers if m.feed(text[end])]
            if complete:
                self.stopped_by = max(complete, key=len)
                self._held = ""
                return text[: end + 1 - len(self.stopped_by)]
        certain = len(text) - max(m.matched for m in self._matchers)
        self._held = text[certain:]
        return text[:certain]
