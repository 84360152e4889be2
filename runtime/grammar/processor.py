"""Keeps one sequence's answer within its grammar.

      nothing yet ── the opening tag ──► thoughts, forced ids: not the grammar's
        │                                   │ white space may come first
        ▼                                   ▼
      within the grammar ◄──────────────────┘
        │ may end: the end's tokens beside others; complete: those alone
        ▼
      ended

A tag of several tokens may look like the grammar's text at first (`<`). Until they part, both are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .landing import StringState, landing_length

if TYPE_CHECKING:
    from ..thinking.automaton import Automaton
    from .engine import CompiledGrammar

# Models put a line or two between thought and answer, not more.
_MAX_SPACES = 4
_BITS = 32


class GrammarProcessor:
    """Bans every token that would leave the grammar, while `active` says that the next token is no thought.

    opening: the tag that begins a thought, in tokens, allowed at the very beginning; eos_ids: what ends the answer.
    failure: why the grammar could not be followed to its end (it grew too complex); only the end is allowed then;
    room: the most tokens that may come, thoughts included: where few are left, a JSON answer is brought to its end.
    """

    def __init__(
        self,
        compiled: CompiledGrammar,
        active: Callable[[], bool],
        opening: Sequence[int] = (),
        eos_ids: Iterable[int] = (),
        room: int | None = None,
    ) -> None:
        self.failure: str | None = None
        self._landing = compiled.landing if room is not None else None
        self._landing_turn, self._string = -1, StringState()
        self._until_landing = 0 if room is None else room - landing_length(room)
        self._compiled = compiled
        self._matcher = compiled.matcher()
        self._active = active
        size = compiled.vocab_size
        self._words = torch.zeros(
            size // _BITS + 1, dtype=torch.int32
        )  # one bit per token, and the end's own
        self._opening, self._eos = tuple(opening), frozenset(eos_ids)
        self._eos_words = self._bits(self._eos)
        # Of the ends, the model's are allowed by us, and the library's own is no token of the model.
        self._never_words = ~(self._eos_words | self._bits([size]))
        self._space_words = self._bits(compiled.spaces)
        self._penalties: Tensor | None = None
        self._table: Tensor | None = None
        self._is_ours = False  # the next token was drawn under the mask
        self._has_begun = False  # a token of the grammar has come
        self._has_thought = False  # something that is not the grammar's has come
        self._num_spaces = 0
        self._num_tag = 0  # tokens of the opening tag so far, which are all that there is
        self._is_tag = False  # and they are not the grammar's

    @property
    def is_complete(self) -> bool:
        """Tell whether the answer may end here."""
        return self.failure is None and self._matcher.is_accepting()

    @property
    def is_stopped(self) -> bool:
        """Tell whether nothing more can come."""
        return self._matcher.is_stopped()

    def advance(self, tokens: Sequence[int]) -> bool:
        """Take tokens that came before anything was drawn; return whether they are the grammar's."""
        taken = self._matcher.try_consume_tokens(list(tokens))
        self._has_begun = True
        return taken == len(tokens)

    def apply(self, logits: Tensor) -> Tensor:
        """Return the logits [vocab], float32, with minus infinity for every token that is not allowed."""
        self._is_ours = self._active()
        if not self._is_ours:
            return logits
        penalties = self._expand(self._allowed(), logits)
        known = min(logits.shape[0], penalties.shape[0])
        logits[:known].add_(penalties[:known])
        logits[known:].fill_(-torch.inf)
        return logits

    def accept(self, token: int) -> None:
        """Note a token; one that was not drawn under the mask is not the grammar's."""
        is_ours, self._is_ours = self._is_ours, False
        self._until_landing -= 1
        if not is_ours:
            self._leave()
        elif token not in self._eos:
            self._follow(token)

    def _follow(self, token: int) -> None:
        """Move on by a token that was allowed."""
        in_tag = self._next_of_tag() == token
        self._num_tag = self._num_tag + 1 if in_tag else len(self._opening)
        taken = not self._is_tag and self._matcher.try_consume_tokens([token]) == 1
        self._is_tag = in_tag and not taken
        if in_tag and self._num_tag == len(self._opening):
            self._leave()
        elif taken:
            self._has_begun = True
            if self._landing is not None:
                self._string.feed(self._compiled.token_bytes(token))
        elif self._matcher.is_error():
            self._fail()
        elif not in_tag and not self._has_begun:
            self._num_spaces += 1

    def _leave(self) -> None:
        """Note that something came which is not the grammar's; what came before it opened a thought."""
        if self._has_begun and not self._has_thought:
            self._matcher, self._has_begun = self._compiled.matcher(), False
            self._string = StringState()
        self._has_thought, self._is_tag = True, False
        self._num_tag = len(self._opening)

    def _next_of_tag(self) -> int | None:
        """Return the token that would go on with the opening tag."""
        return self._opening[self._num_tag] if self._num_tag < len(self._opening) else None

    def _allowed(self) -> Tensor:
        """Return the tokens that may come next, one bit each."""
        words = self._words
        if self._is_tag or self.failure is not None or self._matcher.is_stopped():
            words.zero_()
        else:
            self._matcher.unsafe_compute_mask_ptr(words.data_ptr(), words.numel() * words.element_size())
            words &= self._never_words
        if self._matcher.is_error():
            self._fail()
        if self.failure is not None:
            return words.copy_(self._eos_words)
        if self._matcher.is_accepting() and not self._is_tag:
            if self._landing is not None and self._until_landing <= 0:
                return words.copy_(self._eos_words)
            words |= self._eos_words
        if self._landing is not None and self._until_landing <= 0 and not self._is_tag:
            self._landing_turn = self._landing_turn + 1 if self._string.is_open else -1
            return self._landing.choose(words, in_string=self._string.is_open, turn=self._landing_turn)
        if (token := self._next_of_tag()) is not None:
            words |= self._bits([token])
        if self._has_thought and not self._has_begun and self._num_spaces < _MAX_SPACES:
            words |= self._space_words
        return words

    def _fail(self) -> None:
        self.failure = (
            self._matcher.get_error().strip().partition("\n")[0] or "the grammar cannot be followed"
        )

    def _expand(self, words: Tensor, like: Tensor) -> Tensor:
        """Return 0 for each bit that is set, else minus infinity: float32 [bits], on the device of `like`."""
        if self._penalties is None or self._table is None or self._penalties.device != like.device:
            self._table = _table().to(like.device)
            self._penalties = torch.empty(words.numel() * 4, 8, device=like.device)
        octets = words.view(torch.uint8).to(like.device).int()
        torch.index_select(self._table, 0, octets, out=self._penalties)
        return self._penalties.view(-1)

    def _bits(self, tokens: Iterable[int]) -> Tensor:
        """Return a set of tokens as one bit each; ids beyond the vocabulary are left out."""
        octets = bytearray(self._words.numel() * 4)
        for token in tokens:
            if 0 <= token < len(octets) * 8:
                octets[token >> 3] |= 1 << (token & 7)
        return torch.frombuffer(octets, dtype=torch.int32)


class TriggeredProcessor:
    """Lets an answer be free until one of the grammar's triggers, and keeps what follows it within the grammar."""

    def __init__(
        self, compiled: CompiledGrammar, active: Callable[[], bool], eos_ids: Iterable[int] = ()
    ) -> None:
        self._compiled = compiled
        self._active = active
        self._eos = frozenset(eos_ids)
        self._longest = max(map(len, compiled.triggers))
        self._text = b""  # the answer's last bytes
        self._inner: GrammarProcessor | None = None
        self._is_over = False

    def apply(self, logits: Tensor) -> Tensor:
        """Return the logits [vocab], float32, with minus infinity for every token that is not allowed."""
        if not self._active():
            return logits
        if self._inner is not None:
            return self._inner.apply(logits)
        if self._is_over:
            kept = {token: float(logits[token]) for token in self._eos if token < logits.shape[0]}
            logits.fill_(-torch.inf)
            for token, value in kept.items():
                logits[token] = value
        return logits

    def accept(self, token: int) -> None:
        """Note a token."""
        if not self._active():
            self._text = b""
        elif self._inner is not None:
            self._inner.accept(token)
            self._leave()
        elif not self._is_over:
            self._look(self._compiled.token_bytes(token))

    def _look(self, piece: bytes) -> None:
        """Begin the grammar if a trigger ends within a piece."""
        before = len(self._text)
        self._text += piece
        found = [
            at + len(trigger)
            for trigger in self._compiled.triggers
            if (at := self._text.find(trigger)) >= 0 and at + len(trigger) > before
        ]
        if not found:
            self._text = self._text[max(len(self._text) - self._longest + 1, 0) :]
            return
        rest, self._text = self._text[min(found) :], b""
        self._inner = GrammarProcessor(self._compiled, lambda: True, eos_ids=self._eos)
        if rest and not self._inner.advance(self._compiled.split(rest)):
            self._inner = None  # what came with the trigger is nothing that the grammar knows
        self._leave()

    def _leave(self) -> None:
        """Let the answer be free again where the grammar is at its end, or lost."""
        if self._inner is not None and (self._inner.is_stopped or self._inner.failure is not None):
            self._is_over = self._compiled.once and self._inner.failure is None
            self._inner = None


def processor_for(
    grammar: CompiledGrammar, eos_ids: frozenset[int], thinking: Automaton | None, room: int | None = None
) -> GrammarProcessor | TriggeredProcessor:
    """Return what keeps a sequence's answer, and not its thoughts, within the grammar; room: its most tokens."""
    if grammar.triggers:
        return TriggeredProcessor(grammar, lambda: thinking is None or not thinking.thinking, eos_ids)
    if thinking is None:
        return GrammarProcessor(grammar, lambda: True, eos_ids=eos_ids, room=room)
    may_think = thinking.plan.budget > 0 and not thinking.plan.opened
    opening = grammar.opening if may_think else ()
    return GrammarProcessor(grammar, lambda: not thinking.thinking, opening, eos_ids, room)


def _table() -> Tensor:
    """Return float32 [256, 8]: for each byte what its bits stand for, the lowest first."""
    octets = torch.arange(256)[:, None] >> torch.arange(8)
    return torch.where((octets & 1).bool(), 0.0, -torch.inf)
