"""Thoughts that go round in circles: exact cycles of ids, and sentences that keep coming back."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

_WINDOW = 512
_LONGEST_PERIOD = 192
_COVERED = 48
_SHORT_PERIOD, _COVERED_IF_SHORT = 8, 96  # rules of a table, digits of a list
_EVERY, _NOT_BEFORE = 16, 128
_SENTENCES, _SENTENCE_REPEATS = 40, 4
_SHORTEST_SENTENCE = 16
_ENDS = ".?!\n。！？"


def has_cycle(ids: Sequence[int], repeats: int) -> bool:
    """Tell whether `ids` end with the same run again and again.

    The last 512 of them, backwards, have the border table of Knuth, Morris and Pratt; a beginning of length n whose
    longest border has length b repeats with period n - b.
    """
    recent = list(reversed(ids[-_WINDOW:]))
    borders = [0] * len(recent)
    matched = 0
    for at in range(1, len(recent)):
        while matched and recent[at] != recent[matched]:
            matched = borders[matched - 1]
        matched += recent[at] == recent[matched]
        borders[at] = matched
        length, period = at + 1, at + 1 - matched
        covered = _COVERED_IF_SHORT if period < _SHORT_PERIOD else _COVERED
        if period <= _LONGEST_PERIOD and length >= max(repeats * period, covered):
            return True
    return False


class LoopGuard:
    """Watches one text; after `repeats` rounds of a cycle, or four times the same sentence of late, it is a loop."""

    def __init__(self, repeats: int, *, not_before: int = _NOT_BEFORE) -> None:
        self._repeats = repeats
        self._not_before = not_before
        self._ids: list[int] = []
        self._sentence = ""
        self._recent: deque[str] = deque()
        self._counts: Counter[str] = Counter()

    def feed(self, token: int, text: str) -> bool:
        """Take one more token and its text; tell whether the text is in a loop now."""
        self._ids.append(token)
        again = False
        for char in text:
            again |= self._add(char)
        count = len(self._ids)
        if count < self._not_before:
            return False
        return again or (count % _EVERY == 0 and has_cycle(self._ids, self._repeats))

    def _add(self, char: str) -> bool:
        """Add a character; tell whether it ends a sentence that has come too often."""
        self._sentence += char
        if char not in _ENDS:
            return False
        sentence, self._sentence = " ".join(self._sentence.lower().split()), ""
        if len(sentence) < _SHORTEST_SENTENCE:
            return False
        self._recent.append(sentence)
        self._counts[sentence] += 1
        if len(self._recent) > _SENTENCES:
            oldest = self._recent.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]
        return self._counts[sentence] >= max(self._repeats, _SENTENCE_REPEATS)
