"""What is asked of one sequence's thoughts, resolved to ids and numbers; and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EndReason = Literal["natural", "soft", "landing", "hard", "loop", "exit", "user", "eos", "tool"]

_LOOK_BACK = 24
# A message that took a larger share of a small budget would leave no thought to conclude from.
_MESSAGE_SHARE = 4


@dataclass(frozen=True, slots=True)
class Marks:
    """How thoughts begin and end in one vocabulary.

    opens, ends: the texts that begin a thought and that end it; close: the ids that end one by force, of which the
    first `close_inside` still count as thought; end_id: the first id of the usual end; single: the ids that are a
    whole tag each; tools: the texts that begin a tool call, which ends a thought (tool_ends) or may not stand in
    one; tool_ids: the ids that are a whole such text; interleaved: thoughts may come again after the answer began;
    header_begins, header_ends: the ids between which stands what is no answer but says that one follows; hidden: ids
    that are no part of an answer either.
    """

    opens: tuple[str, ...]
    ends: tuple[str, ...]
    close: tuple[int, ...]
    close_inside: int = 0
    end_id: int | None = None
    single: frozenset[int] = frozenset()
    tools: tuple[str, ...] = ()
    tool_ends: bool = False
    tool_ids: tuple[int, ...] = ()
    interleaved: bool = False
    header_begins: frozenset[int] = frozenset()
    header_ends: frozenset[int] = frozenset()
    hidden: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ThinkingPlan:
    """One turn's limits, in tokens of thought.

    opened: the prompt ends within a thought; budget: the most, injected ones included; requested: what the user
    asked for; message: said before a forced end; minimum: fewer are not accepted while rounds last; waits: said
    instead of a refused end, in turn; soft: the share of the budget after which ends at boundaries are favoured, 0
    for a bare cut, wherever it falls; loop: repeats that count as a loop, 0 for never; nudge: said once at a loop
    before it ends the thought; exit: the confidence in an answer at which the thought ends; answer_prefix: what leads
    to that answer; lead: what is put after a natural end, where the answer must follow at once; is_final: what is put
    after a forced end leads to the answer itself, and to no other message.
    """

    marks: Marks
    budget: int
    opened: bool = False
    requested: int | None = None
    message: tuple[int, ...] = ()
    minimum: int = 0
    rounds: int = 0
    waits: tuple[tuple[int, ...], ...] = ()
    soft: float = 0.75
    loop: int = 3
    nudge: tuple[int, ...] = ()
    exit: float | None = None
    answer_prefix: tuple[int, ...] = ()
    lead: tuple[int, ...] = ()
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class Zones:
    """Where a budget changes how a thought may end; all are numbers of tokens thought so far.

    0 ──── free ────► soft ── favoured at boundaries ──► land ── at the first boundary ──► hard
                                               hold: from here on nothing is shown that a cut may take back
    """

    soft: int
    land: int
    hold: int
    hard: int
    message: tuple[int, ...]


def zones(plan: ThinkingPlan, budget: int) -> Zones:
    """Return the zones of what is left of a budget."""
    room = max(budget - plan.marks.close_inside, 0)
    message = plan.message if len(plan.message) * _MESSAGE_SHARE <= room else ()
    hard = room - len(message)
    landing = min(max(8, min(64, hard // 20)), max(1, hard // 8)) if plan.soft else 0
    soft = min(int(plan.soft * hard), hard - landing) if plan.soft else hard
    back = min(_LOOK_BACK, hard // 4) if plan.soft else 0
    return Zones(soft, hard - landing, hard - back, hard, message)


@dataclass(frozen=True, slots=True)
class ThinkingReport:
    """How a turn was thought through; all counts are tokens.

    tokens: between the tags, injected ones included; reason: how the last thought ended, None if there was none or
    it was still going on; rounds: ends that were refused; injected: put in by force, the closing tags included;
    discarded: drawn and taken back; probe_tokens: computed to see whether the answer was already certain.
    """

    tokens: int
    budget: int
    requested: int | None
    minimum: int
    reason: EndReason | None
    rounds: int
    injected: int
    discarded: int
    probe_tokens: int
    duration_ms: float

    @property
    def utilisation(self) -> float:
        """The share of the budget that was used."""
        return self.tokens / self.budget if self.budget else 0.0
