"""What has come of a reply and is not yet read; what reads it waits, as a generator, where more must come first."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")
# Yields where more text must come, and returns what was read.
Step: TypeAlias = Generator[None, None, T]

_LONGEST_NAME = 400  # characters; what is longer is no name


class BadCall(Exception):
    """What came is no call; says why."""


class Reader:
    """Text that is read from its beginning; `raw` is what was read since the last mark.

    Whatever waits must hold nothing but lengths from `at`: what was read is let go when more comes.
    """

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.at = 0
        self.ended = False
        self._read: list[str] = []
        self._marked = 0  # where in `text` the unmarked part begins

    def add(self, text: str) -> None:
        """Take more text."""
        self._read.append(self.text[self._marked : self.at])
        self.text, self.at, self._marked = self.text[self.at :] + text, 0, 0

    def mark(self) -> None:
        """Forget what was read so far."""
        self._read.clear()
        self._marked = self.at

    @property
    def raw(self) -> str:
        """What was read since the last mark."""
        return "".join(self._read) + self.text[self._marked : self.at]

    @property
    def rest(self) -> str:
        """What is not read yet."""
        return self.text[self.at :]

    def have(self, length: int) -> Step[bool]:
        """Wait for so many characters; return whether there are as many."""
        while len(self.text) - self.at < length and not self.ended:
            yield
        return len(self.text) - self.at >= length

    def peek(self) -> Step[str]:
        """Return the next character, nothing at the end."""
        yield from self.have(1)
        return self.text[self.at : self.at + 1]

    def space(self) -> Step[None]:
        """Skip white space."""
        while (char := (yield from self.peek())) and char.isspace():
            self.at += 1

    def looking(self, *texts: str) -> Step[str | None]:
        """Return which of the texts comes next, the longest that does; None if none."""
        longest = max(map(len, texts))
        while True:
            rest = self.text[self.at : self.at + longest]
            if self.ended or not any(len(text) > len(rest) and text.startswith(rest) for text in texts):
                return max((text for text in texts if rest.startswith(text)), key=len, default=None)
            yield

    def optional(self, *texts: str) -> Step[str | None]:
        """Read whichever of the texts comes next; return None if none does."""
        found = yield from self.looking(*texts)
        self.at += len(found or "")
        return found

    def expect(self, *texts: str) -> Step[str]:
        """Read one of the texts; raises BadCall if none comes."""
        found = yield from self.optional(*texts)
        if found is None:
            raise BadCall(f"{' or '.join(texts)!r} is missing" if not self.is_over else "it is cut off")
        return found

    @property
    def is_over(self) -> bool:
        """Whether everything was read, and nothing more comes."""
        return self.ended and self.at >= len(self.text)

    def before(self, *tags: str, most: int = _LONGEST_NAME) -> Step[str]:
        """Read up to the first of the tags, which stays; raises BadCall if none comes within `most` characters."""
        longest, start = max(map(len, tags)), 0
        while True:
            limit = self.at + most + longest
            found = [at for tag in tags if (at := self.text.find(tag, self.at + start, limit)) >= 0]
            if found:
                text = self.text[self.at : min(found)]
                self.at = min(found)
                return text
            if self.ended or len(self.text) >= limit:
                raise BadCall("it is cut off" if self.ended else f"{tags[0]!r} is missing")
            start = max(len(self.text) - self.at - longest + 1, 0)
            yield

    def until(self, *tags: str, most: int = _LONGEST_NAME) -> Step[str]:
        """Read up to the first of the tags, and the tag."""
        text = yield from self.before(*tags, most=most)
        yield from self.expect(*tags)
        return text

    def stream(self, out: Callable[[str], None], *tags: str) -> Step[str]:
        """Hand on what comes before the first of the tags, piece by piece; read the tag and return it."""
        while True:
            found = [(at, -len(tag), tag) for tag in tags if (at := self.text.find(tag, self.at)) >= 0]
            if found:
                at, _, tag = min(found)
                # A longer tag that begins earlier may still come.
                if at < len(self.text) - self._pending(tags) or self.ended:
                    self._hand_on(out, at)
                    self.at += len(tag)
                    return tag
                self._hand_on(out, min(at, len(self.text) - self._pending(tags)))
            elif self.ended:
                raise BadCall("it is cut off")
            else:
                self._hand_on(out, len(self.text) - self._pending(tags))
            yield

    def _hand_on(self, out: Callable[[str], None], end: int) -> None:
        if end > self.at:
            out(self.text[self.at : end])
            self.at = end

    def _pending(self, tags: tuple[str, ...]) -> int:
        """Return how many of the last characters may begin a tag."""
        longest = 0
        rest = self.text[self.at :]
        for tag in tags:
            for length in range(min(len(tag) - 1, len(rest)), longest, -1):
                if rest.endswith(tag[:length]):
                    longest = length
                    break
        return longest
