"""Prompt lookup for one sequence: where it is in a text that it repeats, and how such guesses have fared.

the text      … def load ( self ) : ⏎    self . file …
the reply     … def load ( self ) -> None : ⏎    self …      the same again after an insertion: a near match
              … def read ( self ) : …                        `load` became `read`: guessed so the next time
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ngram import PRIORS, SURE_KIND, SWAP_KIND, Match, NgramIndex
from .odds import NO_GUESSES, Guesses, Odds

if TYPE_CHECKING:
    from ..sequence import Sequence


class Lookup:
    """Guesses how one sequence goes on from where its latest tokens came before."""

    def __init__(self) -> None:
        self.odds = Odds(PRIORS)
        self.guesses = NO_GUESSES
        self._index = NgramIndex()
        self._match: Match | None = None
        self._swaps: dict[int, int] = {}  # what tokens of the text became when it was repeated
        self._lost: tuple[int, int] | None = None  # where in the text, and in the sequence, it went wrong

    def guess(self, sequence: Sequence, count: int) -> list[float]:
        """Guess up to `count` tokens; returns how likely each of them is to be accepted."""
        tokens = sequence.tokens
        self._match = self._learn(tokens)
        # What may be taken back is not to be found later.
        self._index.extend(tokens, min(sequence.num_told, len(tokens)))
        self.guesses = NO_GUESSES
        if count <= 0:
            self._match = None
            return []
        match = self._find(tokens)
        self._match = match
        if match is None:
            return []
        found = self._index.guess(tokens, match, count + 1)
        kinds = [match.kind(further) for further in range(len(found))]
        for number, token in enumerate(found) if self._swaps else ():
            if token in self._swaps and kinds[number] >= SURE_KIND:
                found[number], kinds[number] = self._swaps[token], SWAP_KIND
        self.guesses = Guesses(len(tokens), found, kinds)
        return self.guesses.chances(self.odds)[:count]

    def _find(self, tokens: list[int]) -> Match | None:
        """Return the best place to go on from: where it is, a longer match, near where it went wrong, or any."""
        found = self._match
        if found is None or not found.is_long:
            longer = self._index.find_long(tokens)
            if longer is not None and (found is None or longer.length > found.length):
                found = longer
        if found is None and self._lost is not None:
            place, at = self._lost
            found = self._index.find_near(tokens, place, at)
            if found is not None and found.end == place + 2 and len(tokens) == at + 2:
                self._swaps[tokens[place]] = tokens[at]
        return found or self._index.find_short(tokens)

    def _learn(self, tokens: list[int]) -> Match | None:
        """Note how the latest guesses fared; returns where in the text the sequence now is, if they were right."""
        guesses, match = self.guesses, self._match
        wrong = guesses.learn(tokens, self.odds)
        if match is None:
            return None
        if wrong is None:
            num_new = len(tokens) - guesses.start
            return match.further(num_new) if 0 < num_new <= len(guesses.tokens) else None
        source, at = match.end + wrong, guesses.start + wrong
        if guesses.kinds[wrong] >= SURE_KIND and source < len(tokens):
            self._lost = (source, at)
            self._swaps.pop(tokens[source], None)
        return None
