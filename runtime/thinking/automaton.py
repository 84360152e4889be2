"""One sequence's thinking, token by token: what a drawn token becomes, and which tokens may be drawn.

    OUTSIDE ──open tag──► THOUGHT ──end──► ANSWER           opened by the prompt: begins in THOUGHT
       └──other text──────────────────────►┘ │
    THOUGHT ──boundary, now and then──► probe ──taken back──► THOUGHT     (early exit)
    ANSWER ──open tag, interleaved families with budget left──► THOUGHT

An end is natural (the model's tag, an end of text, a tool call) or forced (limit, loop, user); an end that comes
before the minimum is taken back and answered with "Wait". What is forced is appended to the sequence as tokens,
to be computed in one pass over the same cache; what is taken back was never shown (`num_held`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from .answer import Answer
from .boundary import SENTENCE
from .marks import Found, find_at_end
from .plan import EndReason, ThinkingPlan, ThinkingReport
from .probe import Probe, may_probe
from .thought import Thought

if TYPE_CHECKING:
    import random

    from torch import Tensor

_PULL = 8.0  # nats that favour an end at a paragraph's end when the soft zone is over
_MOST_PULL = 700.0  # what exp() holds
_BANNED_AFTER_WAIT = 8
_LEAST_AFTER_WAIT = 8
_LONGEST_TAG = 32  # tokens
_WITHOUT_MESSAGE = ("soft", "eos", "tool", "exit")


class Phase(Enum):
    """Where a sequence is."""

    OUTSIDE, THOUGHT, ANSWER = range(3)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a drawn token: take back the last `drop` tokens, it among them, and append `inject`."""

    drop: int = 0
    inject: tuple[int, ...] = ()


class Automaton:
    """Follows one sequence. `apply` and `choose` come before a draw, `take` after it."""

    def __init__(
        self,
        plan: ThinkingPlan,
        token_bytes: Callable[[int], bytes],
        eos_ids: frozenset[int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self.marks = plan.marks
        self._bytes = token_bytes
        self._eos_ids = eos_ids
        self._clock = clock
        self._opens = [text.encode() for text in plan.marks.opens]
        calls = plan.marks.tools if plan.marks.tool_ends else ()
        self._ends = [text.encode() for text in (*plan.marks.ends, *calls)]
        self._phase = Phase.OUTSIDE
        self._used = 0  # tokens of the thoughts before this one
        self._thought = self._new_thought()
        self._probe: Probe | None = None
        self._confident: str | None = None  # the answer that the last probe was sure of
        self._stop = False
        self._would_end = True  # the model would have ended here by itself
        self._ends_softly = False  # the first id of an end was chosen for being favoured
        self._text: list[bytes] = []  # the last tokens outside of thoughts
        self._half_open = False  # they may begin a tag
        self._answer = Answer(plan.marks)
        self._num_after = 0  # tokens since the last thought
        self._rounds = self._discarded = self._injected = self._probe_tokens = 0
        self._reason: EndReason | None = None
        self._seconds = self._began = 0.0
        if plan.opened:
            self._begin()

    def start(self) -> tuple[int, ...]:
        """Return what follows the prompt before anything is drawn; often nothing."""
        return self._cut("hard").inject if self.thinking and self._thought.zones.hard <= 0 else ()

    @property
    def thinking(self) -> bool:
        """Whether the sequence is within a thought."""
        return self._phase is Phase.THOUGHT

    @property
    def answering(self) -> bool:
        """Whether the next token belongs to the answer, or might."""
        return not self.thinking and not self._half_open

    @property
    def num_held(self) -> int:
        """How many of the last tokens may still be taken back."""
        return self._thought.num_held + self.num_probed if self.thinking else 0

    @property
    def num_probed(self) -> int:
        """How many of the last tokens only look ahead, and will surely be taken back."""
        return self._probe.num_tokens if self._probe is not None else 0

    @property
    def num_thinking(self) -> int:
        """How many tokens of thought there are so far."""
        return self._used + len(self._thought)

    @property
    def num_answer(self) -> int:
        """How many of the last tokens are no thought, nor what ended one; some may still begin one."""
        return self._num_after

    def stop(self) -> None:
        """End the thought at the next token: the user wants the answer now."""
        self._stop = self._phase is not Phase.ANSWER

    def report(self) -> ThinkingReport:
        """Return how the turn has gone so far."""
        seconds = self._seconds + (self._clock() - self._began if self.thinking else 0.0)
        return ThinkingReport(
            tokens=self.num_thinking,
            budget=self.plan.budget,
            requested=self.plan.requested,
            minimum=self.plan.minimum,
            reason=self._reason,
            rounds=self._rounds,
            injected=self._injected,
            discarded=self._discarded,
            probe_tokens=self._probe_tokens,
            duration_ms=seconds * 1000,
        )

    # What may be drawn.

    def apply(self, logits: Tensor) -> Tensor:
        """Mask what the phase forbids, in place.  # float32 [vocab]"""
        marks, banned = self.marks, set[int]()
        if self._phase is Phase.ANSWER:
            if self._answer.is_final or not (marks.interleaved and self._left() > marks.close_inside):
                banned |= marks.single
            if self._answer.is_final:
                banned |= marks.header_begins
            if not self._answer.shows:
                banned |= self._eos_ids
        elif self.thinking and self._probe is None:
            if not marks.tool_ends:
                banned.update(marks.tool_ids)
            if len(self._thought) < self._thought.banned_until:
                banned |= self._eos_ids | marks.single | set(marks.tool_ids)
        for token in banned:
            if token < logits.shape[0]:
                logits[token] = -math.inf
        return logits

    def choose(self, logits: Tensor, temperature: float, rng: random.Random) -> int | None:
        """Return the token that the thinking decides on, or None to draw one from logits [vocab].

        Where an end is favoured, it is chosen with the share that it has of the logits with the favour added, whatever
        filters would do to it; greedily, if that makes it the largest.
        """
        if self._probe is not None:
            return self._probe.choose(logits)
        end, self._would_end = self.marks.end_id, True
        pull = self._pull()
        if not pull or end is None or end >= logits.shape[0] or logits[end] == -math.inf:
            return None
        best = int(logits.argmax())
        self._would_end = best == end
        if temperature <= 0:
            chosen = float(logits[end]) + pull >= float(logits[best])
        else:
            scaled = logits.double() / temperature
            surprise = float(scaled.logsumexp(-1)) - float(scaled[end])
            favour = math.exp(min(pull / temperature, _MOST_PULL))
            chosen = rng.random() < favour / (favour + math.expm1(min(surprise, _MOST_PULL)))
        if not chosen:
            logits[end] = -math.inf
            return None
        self._ends_softly = end not in self.marks.single or bool(self.marks.header_begins)
        return end

    def _pull(self) -> float:
        """Return how strongly an end is favoured right now, in nats."""
        thought = self._thought
        free = max(thought.zones.soft, thought.banned_until - 1)
        if not self.thinking or len(thought) <= free or self._may_extend(len(thought)):
            return 0.0
        span = max(thought.zones.land - thought.zones.soft, 1)
        share = min((len(thought) - thought.zones.soft) / span, 1.0)
        return _PULL * share * share * thought.place

    # What a drawn token becomes.

    def take(self, token: int) -> Verdict | None:
        """Move on by one drawn token; None: it is kept, and nothing is forced."""
        if self._probe is not None:
            return self._take_probe(self._probe, token)
        return self._take_thought(token) if self.thinking else self._take_text(token)

    def _take_text(self, token: int) -> Verdict | None:
        """Look for the tag that opens a thought: at the beginning, or anywhere in interleaved families."""
        piece = self._bytes(token)
        self._num_after += 1
        if self._phase is Phase.ANSWER:
            self._answer.take(token, piece)
            if not self.marks.interleaved:
                return None
        self._text = [*self._text[-_LONGEST_TAG:], piece]
        if self._phase is Phase.OUTSIDE:
            head = b"".join(self._text).lstrip()
            opened = any(head.startswith(tag) for tag in self._opens)
            self._half_open = bool(head) and any(tag.startswith(head) for tag in self._opens)
        else:
            found = find_at_end(self._text, self._opens)
            opened = found is not None and found.complete
            self._half_open = found is not None
        if opened:
            self._begin()
            return self._cut("hard") if self._thought.zones.hard <= 0 else None
        if self._phase is Phase.OUTSIDE and piece.strip() and not self._half_open:
            self._phase, self._answer = Phase.ANSWER, Answer(self.marks, shows=True)
        return None

    def _take_thought(self, token: int) -> Verdict | None:
        thought = self._thought
        if self._ends_softly:  # what is chosen for its first id is written out to its last
            return self._cut("soft", refused=1)
        if token in self._eos_ids:
            torn = thought.num_torn
            return self._extend(1 + torn, len(thought) - torn) or self._cut("eos", refused=1)
        held = thought.num_held
        thought.add((token,))
        found = thought.find(self._ends)
        if found is not None and found.complete:
            return self._take_end(found, held)
        if self._stop:
            return self._cut("user")
        if len(thought) >= thought.zones.hard:
            return self._cut("hard")
        if thought.is_looping():
            return self._nudge() or self._cut("loop")
        return self._at_boundary()

    def _take_end(self, found: Found, held: int) -> Verdict | None:
        """Accept the end that the last tokens spell, or take it back; held: how many were, without the last."""
        thought, count = self._thought, found.num_tokens
        extended = self._extend(count, len(thought) - count)
        if extended is not None:
            return extended
        if found.index >= len(self.marks.ends):
            # The call itself comes after the tag that it made superfluous.
            marker = tuple(thought.ids[-count:])
            torn = thought.withdraw(count, self._ends, held)
            return self._cut("tool", drop=torn, refused=count, follow=marker)
        soft = len(thought) > thought.zones.soft and not self._would_end
        thought.forget(count - found.shared)
        self._finish("soft" if soft else "natural")
        self._injected += len(self.plan.lead)
        return Verdict(0, self.plan.lead) if self.plan.lead else None

    def _at_boundary(self) -> Verdict | None:
        """Land, or see whether the answer is certain already, where the text may be cut."""
        thought, plan = self._thought, self.plan
        lands = len(thought) >= thought.zones.land
        if not lands and plan.exit is None:
            return None
        place = thought.place
        if lands and place and not self._may_extend(len(thought)):
            return self._cut("landing")
        if plan.exit is None or place < SENTENCE or thought.open_tokens:
            return None
        if not may_probe(plan, len(thought), len(thought) - thought.last_probe, self._probe_tokens):
            return None
        thought.last_probe = len(thought)
        forced = (*self.marks.close, *plan.answer_prefix)
        self._probe = Probe(forced, self._bytes, self._eos_ids)
        return Verdict(0, forced)

    def _take_probe(self, probe: Probe, token: int) -> Verdict | None:
        if not probe.take(token):
            return None
        self._probe = None
        drop = probe.num_tokens
        self._probe_tokens += drop - 1  # the last one drawn is not computed
        sure = probe.confidence >= (self.plan.exit or 1.0)
        again = sure and probe.answer == self._confident
        self._confident = probe.answer if sure else None
        if again or self._stop:
            closing = self._cut("exit" if again else "user")
            return Verdict(drop + closing.drop, closing.inject)
        self._probe_tokens += 1  # the thought's last token is computed again
        return Verdict(drop)

    # More thinking.

    def _may_extend(self, kept: int) -> bool:
        """Tell whether an end after `kept` tokens of thought would be answered with "Wait"."""
        plan, thought = self.plan, self._thought
        is_enough = plan.minimum and self._used + kept >= plan.minimum
        if is_enough or self._rounds >= plan.rounds or not plan.waits or thought.stuck:
            return False
        return kept + len(self._next_wait()) + _LEAST_AFTER_WAIT <= thought.zones.hard

    def _next_wait(self) -> tuple[int, ...]:
        return self.plan.waits[self._rounds % len(self.plan.waits)]

    def _extend(self, drop: int, kept: int) -> Verdict | None:
        """Take back an end of `drop` tokens that comes too early, and say "Wait"; None if it is to stand.

        kept: how many tokens of thought stand before it.
        """
        thought = self._thought
        if not self._may_extend(kept) or not thought.makes_progress(kept):
            return None
        wait = self._next_wait()
        thought.forget(len(thought) - kept)
        self._discarded += drop
        self._rounds += 1
        self._inject(wait)
        thought.banned_until = len(thought) + _BANNED_AFTER_WAIT
        return Verdict(drop, wait)

    def _nudge(self) -> Verdict | None:
        """Answer the first loop with a few words instead of an end."""
        thought, nudge = self._thought, self.plan.nudge
        if not nudge or thought.nudged or len(thought) + len(nudge) + _LEAST_AFTER_WAIT > thought.zones.hard:
            return None
        self._inject(nudge)
        thought.forgive(self.plan)
        return Verdict(0, nudge)

    # The end.

    def _cut(
        self, reason: EndReason, *, drop: int | None = None, refused: int = 0, follow: tuple[int, ...] = ()
    ) -> Verdict:
        """End the thought by force.

        drop: tokens of thought to take back, by default up to where it can be cut best; refused: tokens that were
        drawn and are no thought; follow: what comes after the closing tags.
        """
        thought, marks = self._thought, self.marks
        drop = thought.tokens_to_drop(far=reason == "hard") if drop is None else drop
        thought.forget(drop)
        self._discarded += drop
        message, close = self._closing(reason)
        inside = len(message) + marks.close_inside - (len(marks.close) - len(close))
        forced = (*message, *close)
        self._inject(forced[:inside])
        self._injected += len(forced) - inside + len(follow)
        self._finish(reason)
        self._answer.is_final = self.plan.is_final and bool(marks.header_begins) and not follow
        return Verdict(drop + refused, forced + follow)

    def _closing(self, reason: EndReason) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the message and the closing tags that still fit the budget."""
        marks, left = self.marks, self._left() - len(self._thought)
        message = () if reason in _WITHOUT_MESSAGE else self._thought.zones.message
        if len(message) + marks.close_inside > left:
            message = ()
        whole = len(message) + marks.close_inside <= left and (bool(message) or not self._thought.ends_line)
        return message, marks.close if whole else marks.close[marks.close_inside :]

    def _left(self) -> int:
        return self.plan.budget - self._used

    def _new_thought(self) -> Thought:
        return Thought(self.plan, self._left(), self._bytes)

    def _begin(self) -> None:
        self._thought = self._new_thought()
        self._phase, self._half_open, self._text, self._num_after = Phase.THOUGHT, False, [], 0
        self._began = self._clock()

    def _finish(self, reason: EndReason) -> None:
        self._used += len(self._thought)
        self._seconds += self._clock() - self._began
        self._reason = reason
        self._thought = self._new_thought()
        self._phase, self._answer = Phase.ANSWER, Answer(self.marks)
        self._stop = self._ends_softly = False

    def _inject(self, tokens: tuple[int, ...]) -> None:
        """Put tokens into the thought that were not drawn."""
        self._thought.add(tokens)
        self._thought.find(self._ends)  # whether they end like the beginning of a tag
        self._injected += len(tokens)
