"""Prompt lookup: where the latest tokens have come before, and what followed them there.

    … if x < 0 : return - x …  elif y < 0 : return      the latest four came before: `- x …` is guessed
           └──── match ────┘        └── latest ──┘

(github.com/apoorvumang/prompt-lookup-decoding.) After a guess that was wrong the text often goes on as before once
the change is over, so a single token that comes again soon after that place counts as a match, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# The tokens of a match that is looked up; the longest of the latest few such is taken.
_LONG: Final = 3
_CANDIDATES: Final = 12
_LONGEST: Final = 24
# How far behind a wrong guess the text may resume, and for how many tokens that is tried.
_NEAR: Final = 16

# The kinds of matches: of one token, of two, near a wrong guess, and of at least 3, 4, 6, 9 and 16 tokens, and tokens
# that are guessed changed; and how often they are taken to be right before any was seen.
PRIORS: Final = (0.05, 0.15, 0.3, 0.35, 0.5, 0.7, 0.85, 0.95, 0.5)
_NEAR_KIND: Final = 2
SURE_KIND: Final = 4  # and those after it: a match that is no accident
SWAP_KIND: Final = 8
_LENGTHS: Final = ((16, 7), (9, 6), (6, 5), (4, 4), (3, 3), (2, 1))


@dataclass(frozen=True, slots=True)
class Match:
    """Where the latest tokens came before: `end` is the place after them, `length` how many they are at least.

    is_near: found close to where an earlier match had gone wrong.
    """

    end: int
    length: int
    is_near: bool = False

    @property
    def is_long(self) -> bool:
        """Tell whether no other match can be longer."""
        return self.length >= _LONGEST

    def further(self, count: int) -> Match:
        """Return the match after `count` more tokens that were guessed rightly."""
        return Match(self.end + count, self.length + count, self.is_near)

    def kind(self, further: int) -> int:
        """Return what kind of match it is once `further` of its guesses were right."""
        length = self.length + further
        if self.is_near and length < _LONG:
            return _NEAR_KIND
        return next((kind for least, kind in _LENGTHS if length >= least), 0)


class NgramIndex:
    """Finds earlier occurrences of a sequence's latest tokens; a token costs O(1) to add and to look up."""

    def __init__(self) -> None:
        self._size = 0
        self._ones: dict[int, int] = {}
        self._twos: dict[tuple[int, ...], int] = {}
        self._longs: dict[tuple[int, ...], int] = {}
        self._earlier: list[int] = []  # for each place the one before with the same long match, or -1

    def extend(self, tokens: Sequence[int], end: int) -> None:
        """Index `tokens` up to `end`; they must begin with those of earlier calls.

        An end of a match is filed with the token that follows it: without one there is nothing to guess.
        """
        for place in range(max(self._size, 1), end):
            self._ones[tokens[place - 1]] = place
            if place >= 2:
                self._twos[tuple(tokens[place - 2 : place])] = place
            earlier = -1
            if place >= _LONG:
                key = tuple(tokens[place - _LONG : place])
                earlier = self._longs.get(key, -1)
                self._longs[key] = place
            self._earlier.append(earlier)
        self._size = max(self._size, end)

    def find_long(self, tokens: Sequence[int]) -> Match | None:
        """Return the longest of the latest matches of at least _LONG tokens; of equal ones the latest."""
        end = self._longs.get(tuple(tokens[-_LONG:]), -1)
        best: Match | None = None
        for _ in range(_CANDIDATES):
            if end < 0:
                break
            length = self._length(tokens, end)
            if best is None or length > best.length:
                best = Match(end, length)
            if length >= _LONGEST:
                break
            end = self._earlier[end - 1]
        return best

    def find_near(self, tokens: Sequence[int], place: int, at: int) -> Match | None:
        """Return the first place soon after `place` where the last token came, soon after the place `at`."""
        if not 0 < len(tokens) - at <= _NEAR:
            return None
        last = tokens[-1]
        for near in range(place, min(place + _NEAR, self._size - 1)):
            if tokens[near] == last:
                return Match(near + 1, self._length(tokens, near + 1), is_near=True)
        return None

    def find_short(self, tokens: Sequence[int]) -> Match | None:
        """Return the latest place where the last two tokens came, or else the last one."""
        end = self._twos.get(tuple(tokens[-2:]))
        if end is not None:
            return Match(end, self._length(tokens, end))
        end = self._ones.get(tokens[-1])
        return None if end is None else Match(end, 1)

    def guess(self, tokens: Sequence[int], match: Match, count: int) -> list[int]:
        """Return the `count` tokens that followed a match; one that runs into the end goes on in circles."""
        found = list(tokens[match.end : match.end + count])
        period = len(tokens) - match.end
        while len(found) < count:
            found += found[len(found) - period :][: count - len(found)]
        return found

    @staticmethod
    def _length(tokens: Sequence[int], end: int) -> int:
        """Return how many of the last tokens, up to _LONGEST, are those before `end`."""
        size = len(tokens)
        most = min(_LONGEST, end)
        length = 1
        while length < most and tokens[end - 1 - length] == tokens[size - 1 - length]:
            length += 1
        return length
