"""Thoughts that go round in circles: exact cycles of ids, and paragraphs that keep coming back."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

_WINDOW = 512
_LONGEST_PERIOD = 192
_COVERED = 48
_SHORT_PERIOD, _COVERED_IF_SHORT = 8, 96  # rules of a table, digits of a list
_EVERY, _NOT_BEFORE = 16, 128
_SENTENCES, _SENTENCE_REPEATS = 64, 4
_SHORTEST_SENTENCE = 16
_BETWEEN_REPEATS, _SHARE = 3, 0.9
_FULL_STOPS, _WIDE_STOPS = ".?!", "。！？"
_LONGEST_END = 8  # a full stop, brackets and quotation marks that close, a space
_CLOSERS = "\"'”’»)]}*_`"
_EQUALS = "=→≈≡"


def has_cycle(ids: Sequence[int], texts: Sequence[str], repeats: int) -> bool:
    """Tell whether `ids`, whose texts are `texts`, end with the same run again and again.

    The last 512 of them, backwards, have the border table of Knuth, Morris and Pratt; a beginning of length n whose
    longest border has length b repeats with period n - b.
    """
    recent = list(reversed(ids[-_WINDOW:]))
    borders = [0] * len(recent)
    lengths: dict[int, int] = {}
    matched = 0
    for at in range(1, len(recent)):
        while matched and recent[at] != recent[matched]:
            matched = borders[matched - 1]
        matched += recent[at] == recent[matched]
        borders[at] = matched
        lengths[at + 1 - matched] = at + 1
    return any(
        length >= max(repeats * period, _COVERED) and length >= _least(texts[-period:])
        for period, length in lengths.items()
        if period <= _LONGEST_PERIOD
    )


def _least(texts: Sequence[str]) -> int:
    """Return how many tokens a run must cover in all, over and over, to be a loop.

    Rows of a grid, zeros of a list: what states nothing may well stay the same for long.
    """
    symbols = "".join(texts).replace(" ", "")
    if all(texts) and not _states(symbols) and (len(set(symbols)) > 1 or symbols.isdigit()):
        return _WINDOW
    return _COVERED_IF_SHORT if len(texts) < _SHORT_PERIOD else _COVERED


def _states(text: str) -> bool:
    """Tell whether a text says something, in words or as an equation."""
    return any(char.isalpha() or char in _EQUALS for char in text)


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence or a line, and how many tokens there were with it."""

    text: str
    end: int


class LoopGuard:
    """Watches one text; after `repeats` rounds of a cycle, or when all sentences of late are repeats, it is a loop."""

    def __init__(self, repeats: int, *, not_before: int = _NOT_BEFORE) -> None:
        self._repeats = repeats
        self._not_before = not_before
        self._ids: list[int] = []
        self._texts: list[str] = []
        self._sentence = ""
        self._recent: deque[_Sentence] = deque(maxlen=_SENTENCES)

    def feed(self, token: int, text: str) -> bool:
        """Take one more token and its text; tell whether the text is in a loop now."""
        self._ids.append(token)
        self._texts.append(text)
        again = False
        for char in text:
            again |= self._add(char)
        count = len(self._ids)
        if count < self._not_before:
            return False
        return again or (count % _EVERY == 0 and has_cycle(self._ids, self._texts, self._repeats))

    def _add(self, char: str) -> bool:
        """Add a character; tell whether it ends a sentence of a paragraph that keeps coming back."""
        self._sentence += char
        if char != "\n" and char not in _WIDE_STOPS and not (char.isspace() and self._has_stopped()):
            return False
        sentence, self._sentence = " ".join(self._sentence.lower().split()), ""
        if not sentence:
            return False
        self._recent.append(_Sentence(sentence, len(self._ids)))
        return len(sentence) >= _SHORTEST_SENTENCE and _states(sentence) and self._comes_back(sentence)

    def _has_stopped(self) -> bool:
        end = self._sentence[-_LONGEST_END:].rstrip().rstrip(_CLOSERS)
        return bool(end) and end[-1] in _FULL_STOPS

    def _comes_back(self, text: str) -> bool:
        """Tell whether the last sentence has come often, and with it what stood in between.

        A chorus, the header of tables or the verdict on each of many cases comes again too, but amid what is new.
        """
        recent = list(self._recent)
        starts = [at for at, sentence in enumerate(recent) if sentence.text == text]
        most = max(self._repeats, _SENTENCE_REPEATS)
        for start in starts[: max(len(starts) - most + 1, 0)]:
            span = recent[start:]
            counts = Counter(sentence.text for sentence in span)
            known = sum(
                count for text, count in counts.items() if count >= _BETWEEN_REPEATS and _states(text)
            )
            new = sum(count for count in counts.values() if count < _BETWEEN_REPEATS)
            if known >= _SHARE * (known + new) and span[-1].end - span[0].end >= _COVERED:
                return True
        return False
