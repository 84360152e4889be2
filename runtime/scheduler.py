"""The one rule of scheduling: each step computes min(pending, share of the budget, chunk) tokens of each sequence.

Sequences that reply come first, so that no prompt holds up a reply for longer than a chunk. What they leave of the
budget prompts share: half is the oldest's, so that it comes to its end, the rest goes to the shortest, which are soon
done. A text that two prompts begin with is computed once: the other one waits for it. Waiting sequences run when their
tokens fit into free blocks. A sequence that replies and needs a block when none is left takes it from the youngest,
which waits and is computed again later.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..errors import ContextExceeded, InvalidRequest
from .blocks import BlockPool
from .request import FinishReason, Output
from .sequence import Drawn, Sequence
from .stats import Counters, EngineStats


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass: each sequence and how many of its pending tokens to compute."""

    items: list[tuple[Sequence, int]]


class Scheduler:
    """Decides what each step computes and settles what came of it; a step costs O(running sequences).

    max_context: the most tokens a sequence may have, prompt and generated; never more than the pool holds,
    so that a sequence that runs alone always fits;
    token_budget: the most tokens of a step; chunk: of one sequence in it; busy_chunk: of all prompts, while others
    reply; max_running: the most sequences that run at once, None for as many as fit.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_context: int,
        token_budget: int = 512,
        chunk: int = 512,
        busy_chunk: int = 512,
        max_running: int | None = None,
    ) -> None:
        assert token_budget > 0, "a step without tokens"
        assert min(chunk, busy_chunk) > 0, "a chunk without tokens"
        assert max_running is None or max_running > 0, "nothing may run"
        self.pool = pool
        self.max_context = min(max_context, pool.num_blocks * pool.block_size)
        self.token_budget = token_budget
        self.chunk = chunk
        self.busy_chunk = busy_chunk
        self.max_running = max_running
        self.counters = Counters()
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._by_id: dict[str, Sequence] = {}
        # The first in the queue did not fit; nothing that could change this has happened since.
        self._is_full = False

    @property
    def has_work(self) -> bool:
        """Tell whether any sequence is under way."""
        return bool(self._by_id)

    def stats(self) -> EngineStats:
        """Return what is under way and what has been done."""
        pool, counters = self.pool, self.counters
        return EngineStats(
            running=len(self.running),
            waiting=len(self.waiting),
            blocks_used=pool.num_blocks - pool.num_available,
            blocks_cached=pool.num_cached,
            blocks_total=pool.num_blocks,
            block_size=pool.block_size,
            steps=counters.steps,
            computed_tokens=counters.computed,
            prompt_tokens=counters.prompt,
            cached_tokens=counters.cached,
            generated_tokens=counters.generated,
            preemptions=counters.preempted,
            finished=counters.finished,
            cancelled=counters.cancelled,
        )

    def check_prompt(self, num_tokens: int) -> None:
        """Raise InvalidRequest or ContextExceeded unless a prompt this long leaves room for an answer."""
        if num_tokens == 0:
            raise InvalidRequest("the prompt is empty", field="prompt")
        excess = num_tokens + 1 - self.max_context
        if excess > 0:
            raise ContextExceeded(
                f"the prompt takes {num_tokens} tokens, the context {self.max_context}: "
                f"{excess} too many for an answer of even one token",
                field="prompt",
                hint="shorten the prompt, or ask for a larger context (--num-ctx)",
            )

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Raises InvalidRequest if its id is under way already."""
        self.check_prompt(sequence.num_prompt)
        if sequence.id in self._by_id:
            raise InvalidRequest(f"a request with the id {sequence.id!r} is under way already", field="id")
        # A thought that is closed before it begins may be closed by more tokens than there is room for.
        del sequence.tokens[self.max_context :]
        self._by_id[sequence.id] = sequence
        self.waiting.append(sequence)

    def abort(self, request_id: str) -> Output | None:
        """Drop a sequence between two steps and return its last output; None if it is not under way."""
        sequence = self._by_id.get(request_id)
        if sequence is None:
            return None
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        tokens, text, _ = self._tell(sequence, len(sequence.tokens) - sequence.num_held(is_last=True))
        return self._finish(sequence, tokens, text, "cancelled")

    def end_thinking(self, request_id: str) -> bool:
        """End a sequence's thought at its next token; False if it is not under way or has no thoughts."""
        sequence = self._by_id.get(request_id)
        if sequence is None or sequence.thinking is None:
            return False
        sequence.thinking.stop()
        return True

    def clear(self) -> None:
        """Forget every sequence and the cache with them."""
        self.waiting.clear()
        self.running.clear()
        self._by_id.clear()
        self._is_full = False
        self.pool.clear()

    def schedule(self) -> Step:
        """Choose what the next step computes and reserve its blocks."""
        self._admit_waiting()
        items = self._replies()
        left = self.token_budget - sum(count for _, count in items)
        items += self._prompts(min(left, self.busy_chunk) if items else left)
        assert items or not self.has_work, "sequences are under way, but none can move"
        return Step(items)

    def _admit_waiting(self) -> None:
        """Let those run that have been waiting longest, while there is room for all their tokens."""
        most = len(self._by_id) if self.max_running is None else self.max_running
        while self.waiting and len(self.running) < most and not self._is_full:
            if self._admit(self.waiting[0]):
                self.running.append(self.waiting.popleft())
            else:
                self._is_full = True

    def _replies(self) -> list[tuple[Sequence, int]]:
        """Return what to compute of sequences that reply, oldest first, with blocks for it."""
        items: list[tuple[Sequence, int]] = []
        budget = self.token_budget
        index = 0
        while index < len(self.running) and budget:
            sequence = self.running[index]
            if not sequence.is_reading:
                count = self._allot(sequence, budget)
                if not self._make_room(sequence, count):
                    break
                items.append((sequence, count))
                budget -= count
            index += 1
        return items

    def _prompts(self, budget: int) -> list[tuple[Sequence, int]]:
        """Return what to compute of prompts, whose blocks are reserved already."""
        reading = [sequence for sequence in self.running if sequence.is_reading]
        if not reading or not budget:
            return []
        for sequence in reading:
            self._take_cached(sequence)
        oldest, *others = reading
        left = budget - self._allot(oldest, (budget + 1) // 2)
        under_way = {self.pool.next_key(oldest)}
        items: list[tuple[Sequence, int]] = []
        for sequence in sorted(others, key=lambda each: each.num_pending):
            key = self.pool.next_key(sequence)
            if not left:
                break
            if key is None or key not in under_way:
                under_way.add(key)
                items.append((sequence, self._allot(sequence, left)))
                left -= items[-1][1]
        taken = sum(count for _, count in items)
        return [(oldest, self._allot(oldest, budget - taken)), *items]

    def _take_cached(self, sequence: Sequence) -> None:
        """Reuse what others have computed of a prompt since it was admitted."""
        forced: list[int] = []
        if not sequence.was_read:  # what follows the prompt is not looked for: it counts as computed
            forced = sequence.tokens[sequence.num_prompt + 1 :]
            del sequence.tokens[sequence.num_prompt + 1 :]
        known = self.pool.extend(sequence)
        sequence.tokens += forced
        if known > sequence.num_computed:
            self._skip_to(sequence, known)

    def _skip_to(self, sequence: Sequence, known: int) -> None:
        """Move on to `known` tokens, found in the cache; those that it computed before it lost them do not count."""
        before = max(sequence.num_computed, sequence.num_lost)
        sequence.num_cached += max(min(known, sequence.num_prompt) - before, 0)
        sequence.num_computed = known

    def commit(self, step: Step, drawn: list[Drawn]) -> list[Output]:
        """Settle a step; `drawn` is what each item that had rows of logits got, in order."""
        sampled = iter(drawn)
        self.counters.steps += 1
        outputs: list[Output] = []
        for sequence, count in step.items:
            sequence.num_forwarded += count
            self.counters.computed += count
            if sequence.num_logits(count):
                outputs.append(self._advance(sequence, next(sampled)))
            else:
                sequence.num_computed += count
                self.pool.publish(sequence)
                outputs.append(sequence.output())
        if any(output.finish for output in outputs):
            self.running = [sequence for sequence in self.running if sequence.id in self._by_id]
        return outputs

    def _advance(self, sequence: Sequence, drawn: Drawn) -> Output:
        """Append what was drawn and forced, and give out what will not be taken back."""
        if sequence.request.sampling.max_tokens == 0:
            return self._finish(sequence, (), "", "length")
        tokens = sequence.tokens
        if sequence.is_reading:
            sequence.is_reading = False
            self._count_prompt(sequence)
        # The last token was only drawn; of the drafts before it, those that differed are computed again.
        sequence.num_computed = len(tokens) + max(len(drawn.tokens) - 1, 0)
        sequence.num_sampled += 0 if drawn.is_probe else len(drawn.tokens)
        sequence.num_drafted += len(sequence.drafts)
        sequence.num_accepted += max(len(drawn.tokens) - 1, 0)
        sequence.drafts = []
        tokens += drawn.tokens
        if drawn.verdict is not None:
            drop = drawn.verdict.drop
            assert drop <= len(tokens) - sequence.num_told, "a token that was given out is taken back"
            for place in range(len(tokens) - drop, len(tokens)):
                sequence.logprobs.pop(place, None)
            del tokens[len(tokens) - drop :]
            sequence.num_sampled -= drop > 0 and not drawn.is_probe  # the last one was never computed
            sequence.num_computed = min(sequence.num_computed, len(tokens))
            tokens += drawn.verdict.inject
            # A probe that is over leaves nothing new to compute: the last token gives its logits once more.
            sequence.num_computed -= sequence.num_computed == len(tokens)
        is_full = len(tokens) >= self.max_context
        told, text, finish = self._tell(sequence, len(tokens) - sequence.num_held(is_last=is_full))
        if not drawn.tokens:
            finish = "stop"
        elif is_full and finish is None:  # what is left only looked ahead
            finish = "length"
            del tokens[sequence.num_told :]
            sequence.num_computed = min(sequence.num_computed, len(tokens))
        self.pool.publish(sequence)
        return self._finish(sequence, told, text, finish) if finish else sequence.output(told, text)

    def _count_prompt(self, sequence: Sequence) -> None:
        if not sequence.was_read:  # after a preemption it has been counted
            sequence.was_read = True
            self.counters.prompt += sequence.num_prompt
            self.counters.cached += sequence.num_cached

    def _tell(self, sequence: Sequence, end: int) -> tuple[tuple[int, ...], str, FinishReason | None]:
        """Give out the tokens before `end`, up to where the sequence ends."""
        start = sequence.num_told
        answer = sequence.answer_start
        text = ""
        finish: FinishReason | None = None
        while sequence.num_told < end and finish is None:
            token = sequence.tokens[sequence.num_told]
            sequence.num_told += 1
            # End-of-generation tokens are counted and shown by id, but are no text.
            if token in sequence.request.eos_ids:
                finish = "stop"
            else:
                is_answer = sequence.num_told > answer
                new = sequence.text.feed(token, is_answer=is_answer)
                text += new
                finish = self._limit(sequence)
                if finish is None and is_answer and sequence.guard is not None:
                    finish = "repeat" if sequence.guard.feed(token, new) else None
        if finish:
            del sequence.tokens[sequence.num_told :]
            sequence.num_computed = min(sequence.num_computed, len(sequence.tokens))
        self.counters.generated += sequence.num_told - start
        return tuple(sequence.tokens[start : sequence.num_told]), text, finish

    def _limit(self, sequence: Sequence) -> FinishReason | None:
        """Tell why the sequence ends with its latest token given out, if it does."""
        if sequence.text.is_stopped:
            return "stop"
        most = sequence.request.sampling.max_tokens
        generated = sequence.num_told - sequence.num_prompt
        return "length" if generated == most or sequence.num_told >= self.max_context else None

    def _finish(self, sequence: Sequence, tokens: tuple[int, ...], text: str, finish: FinishReason) -> Output:
        """Forget a sequence and return its last output."""
        output = sequence.output(tokens, text + sequence.text.finish(), finish)
        self.pool.release(sequence)
        del self._by_id[sequence.id]
        self._is_full = False
        if finish == "cancelled":
            self.counters.cancelled += 1
        else:
            self.counters.finished += 1
        return output

    def _allot(self, sequence: Sequence, budget: int) -> int:
        """Return how many tokens to compute; drafts beyond them, or beyond the context, are dropped."""
        del sequence.drafts[self.max_context - len(sequence.tokens) :]
        if sequence.drafts:
            missing = self.pool.blocks_for(sequence.num_computed + sequence.num_pending) - len(
                sequence.blocks
            )
            if missing and missing + len(self.running) > self.pool.num_available:
                sequence.drafts = []  # guesses are not worth another one's place
        count = min(sequence.num_pending, budget, self.chunk)
        del sequence.drafts[max(sequence.num_computed + count - len(sequence.tokens), 0) :]
        return count

    def _make_room(self, sequence: Sequence, count: int) -> bool:
        """Reserve blocks, if need be those of the youngest; False if the sequence itself was the youngest."""
        while not self.pool.reserve(sequence, count):
            youngest = self.running.pop()
            self.pool.release(youngest)
            youngest.num_lost = max(youngest.num_lost, youngest.num_computed)
            youngest.num_computed = 0
            youngest.drafts = []
            self.waiting.appendleft(youngest)
            # It would only be in the way again.
            self._is_full = True
            self.counters.preempted += 1
            if youngest is sequence:
                return False
        return True

    def _admit(self, sequence: Sequence) -> bool:
        """Reserve blocks for all tokens of a waiting sequence, some cached; False if they do not fit."""
        most = len(sequence.tokens) if sequence.was_read else sequence.num_prompt + 1
        sequence.blocks, known = self.pool.match(sequence.tokens[:most])
        sequence.num_published = len(sequence.blocks)
        if not self.pool.reserve(sequence, sequence.num_pending):
            self.pool.release(sequence)
            return False
        sequence.is_reading = True
        self._skip_to(sequence, known)
        return True
