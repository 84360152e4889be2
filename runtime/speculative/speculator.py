"""Speculation by what pays: guesses of each running sequence, and how many of them the next step verifies.

Text that came before is looked up, which costs next to nothing; such guesses are compared with what came even where
they were not drafted, so that text which begins to repeat itself is noticed. A draft model is asked where nothing was
found, as long as its guesses save more time than they take.
"""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .allot import allot
from .costs import Costs
from .draft import DraftModel
from .lookup import Lookup
from .odds import NO_GUESSES, Guesses, Odds

if TYPE_CHECKING:
    from ..sequence import Sequence

# Drafts of one sequence; with its last token they fill the rows of logits that the runner keeps.
MOST_GUESSES: Final = 15
# Guesses less likely than this are not drafted even where a number is asked for.
_LEAST: Final = 0.1
# With more sequences than this a step is busy enough without guesses.
_MOST_SEQUENCES: Final = 16
# What prompts add to a step at most, in tokens.
_LONGEST_STEP: Final = 512

# A draft model's guesses are of a kind by their probability: below the first of these, the second, …
_BOUNDS: Final = (0.2, 0.4, 0.6, 0.8, 0.9, 0.97)
_PRIORS: Final = (0.15, 0.3, 0.5, 0.7, 0.82, 0.9, 0.97)
# The draft model is not asked where looking up is this sure.
_SURE: Final = 0.75
# Its balance counts tokens gained less time spent; where it falls below zero, it rests, each time longer.
_BALANCE_RATE: Final = 0.1
_FIRST_REST, _LONGEST_REST = 32, 1024


@dataclass(slots=True)
class _State:
    """What is known of one sequence: what was looked up, and how the draft model's guesses have fared.

    spent: what the draft model's guesses that are verified next have cost, in steps of one token.
    """

    lookup: Lookup = field(default_factory=Lookup)
    odds: Odds = field(default_factory=lambda: Odds(_PRIORS))
    guesses: Guesses = NO_GUESSES
    num_tokens: int = 0
    spent: float = 0.0
    balance: float = 1.0
    rest: int = _FIRST_REST
    resting: int = 0

    def settle(self, num_tokens: int) -> None:
        """Weigh what the draft model's latest guesses brought against what they cost."""
        if self.guesses is not NO_GUESSES:
            gained = num_tokens - self.num_tokens - 1
            self.balance += _BALANCE_RATE * (gained - self.spent - self.balance)
            if self.balance < 0:
                self.resting, self.balance = self.rest, 0.5
                self.rest = min(2 * self.rest, _LONGEST_REST)
            elif self.balance > 1:
                self.rest = _FIRST_REST
        self.guesses, self.spent = NO_GUESSES, 0.0
        self.resting = max(self.resting - 1, 0)


class Speculator:
    """Proposes by prompt lookup and, if there is one, a draft model.

    fixed: how many tokens to guess at each match, whatever they cost; None for as many as pay.
    """

    def __init__(self, fixed: int | None = None, draft: DraftModel | None = None) -> None:
        self.costs = Costs()
        self.fixed = fixed
        self._draft = draft
        self._states: dict[Sequence, _State] = {}
        self._expected = 0  # the tokens of the next step, if nothing but replies is in it

    def propose(self, sequences: Row[Sequence]) -> None:
        """Fill the drafts of those sequences that reply."""
        replying = [sequence for sequence in sequences if not sequence.is_reading]
        known = self._states
        self._states = {sequence: known.get(sequence) or _State() for sequence in replying}
        prompts = sum(sequence.num_pending for sequence in sequences if sequence.is_reading)
        num_pending = len(replying) + min(prompts, _LONGEST_STEP)
        if self._draft is not None:
            self._draft.keep(replying)
        if replying and len(replying) <= _MOST_SEQUENCES:
            self._fill(num_pending)
            num_pending += sum(len(sequence.drafts) for sequence in replying)
        self._expected = 0 if prompts else num_pending

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Note what a step took, if it computed what was expected of it."""
        if num_tokens == self._expected:
            self.costs.observe(num_tokens, seconds)

    def _fill(self, num_pending: int) -> None:
        """Guess for every sequence, and draft what pays beside the `num_pending` tokens of the next step."""
        rooms = {sequence: min(_room(sequence), MOST_GUESSES) for sequence in self._states}
        chances = {
            sequence: state.lookup.guess(sequence, rooms[sequence])
            for sequence, state in self._states.items()
        }
        if self._draft is not None:
            self._ask(self._draft, rooms, chances, num_pending)
        if self.fixed is None:
            counts = allot(list(chances.values()), num_pending, self.costs)
        else:
            counts = [min(self.fixed, len(row)) * (row[:1] >= [_LEAST]) for row in chances.values()]
        for (sequence, state), count in zip(self._states.items(), counts, strict=True):
            found = state.lookup.guesses if state.guesses is NO_GUESSES else state.guesses
            ends = sequence.request.eos_ids
            # What ends the reply is not drafted: the row before it draws it.
            sequence.drafts = found.tokens[:count]
            end = next((at for at, token in enumerate(sequence.drafts) if token in ends), count)
            del sequence.drafts[end:]
            if state.guesses is not NO_GUESSES:
                state.spent += self.costs[num_pending + len(sequence.drafts)] - self.costs[num_pending]

    def _ask(
        self,
        draft: DraftModel,
        rooms: dict[Sequence, int],
        chances: dict[Sequence, list[float]],
        num_pending: int,
    ) -> None:
        """Let the draft model guess where nothing sure was found; its guesses' chances replace those found."""
        wanted = {}
        for sequence, state in self._states.items():
            _learn(state, sequence)
            is_sure = bool(chances[sequence]) and chances[sequence][0] >= _SURE
            is_resting = state.resting > 0 and self.fixed is None
            if not is_sure and not is_resting and rooms[sequence] > 0:
                most = rooms[sequence] if self.fixed is None else min(rooms[sequence], self.fixed)
                wanted[sequence] = most
        if not wanted:
            return
        step = self.costs.seconds
        price = draft.seconds / step if step and draft.seconds is not None else 0.0
        slope = self.costs[num_pending + 1] - self.costs[num_pending]

        def is_worth(probabilities: list[float]) -> bool:
            """Compare what another guess would add with what the time for it brings anyway."""
            if self.fixed is not None:
                return True
            chance, expected = 1.0, 1.0
            for probability in probabilities:
                chance *= probability
                expected += chance
            spent = 1 + len(probabilities) * (price + slope)
            return chance * probabilities[-1] / expected > (price + slope) / spent

        for sequence, found in draft.guess(wanted, is_worth).items():
            state = self._states[sequence]
            if found:
                kinds = [sum(p >= bound for bound in _BOUNDS) for _, p in found]
                tokens = [token for token, _ in found]
                state.guesses = Guesses(len(sequence.tokens), tokens, kinds)
                state.num_tokens = len(sequence.tokens)
                state.spent = price * len(found) / len(wanted)
                chances[sequence] = state.guesses.chances(state.odds)


def _learn(state: _State, sequence: Sequence) -> None:
    """Note how the draft model's latest guesses fared."""
    state.guesses.learn(sequence.tokens, state.odds)
    state.settle(len(sequence.tokens))


def _room(sequence: Sequence) -> int:
    """Return how many guesses the reply has room for before its last token."""
    most = sequence.request.sampling.max_tokens
    if most is None:
        return MOST_GUESSES
    return most - (len(sequence.tokens) - sequence.num_prompt) - 1
