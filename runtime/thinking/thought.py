"""One thought as it grows: its tokens, what may still become a tag, and where it could be cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .boundary import TAIL, best_cut, weight
from .loops import LoopGuard
from .marks import Found, find_at_end, text_at_end, unfinished_tokens
from .plan import ThinkingPlan, zones

_SAME_ROUNDS = 2


class Thought:
    """The tokens of one thought, injected ones among them, within `budget`."""

    def __init__(self, plan: ThinkingPlan, budget: int, token_bytes: Callable[[int], bytes]) -> None:
        self.zones = zones(plan, budget)
        self.ids: list[int] = []
        self.open_tokens = 0  # at the end, that may begin a tag
        self.banned_until = 0
        self.last_probe = 0
        self.nudged = False
        self.stuck = False
        self._pieces: list[bytes] = []
        self._bytes = token_bytes
        self._conclusions: list[str] = []
        self._guard = LoopGuard(plan.loop) if plan.loop else None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_held(self) -> int:
        """How many of the last tokens may still be taken back."""
        return max(self.num_torn, len(self.ids) - self.zones.hold)

    @property
    def num_torn(self) -> int:
        """How many of the last tokens are half a tag, or half a character."""
        return max(self.open_tokens, unfinished_tokens(self._pieces))

    @property
    def place(self) -> float:
        """How good a place its end is to stop (boundary.py)."""
        return 0.0 if unfinished_tokens(self._pieces) else weight(text_at_end(self._pieces, TAIL))

    @property
    def ends_line(self) -> bool:
        """Whether it ends with a line break."""
        return text_at_end(self._pieces, 1).endswith("\n")

    def add(self, tokens: Sequence[int]) -> None:
        """Append tokens."""
        self.ids += tokens
        self._pieces += map(self._bytes, tokens)

    def forget(self, count: int) -> None:
        """Take the last `count` tokens out."""
        if count:
            del self.ids[-count:], self._pieces[-count:]

    def withdraw(self, count: int, texts: Sequence[bytes], held: int) -> int:
        """Take the last `count` tokens out; return how many before them are half of one of `texts` or a character.

        held: how many were, without the last token: those that were given out stay, whatever they are.
        """
        self.forget(count)
        self.find(texts)
        return self.num_torn if self.num_torn <= held - (count - 1) else 0

    def find(self, texts: Sequence[bytes]) -> Found | None:
        """Return the text that the last token completes, or the beginning of one that the tokens end with."""
        found = find_at_end(self._pieces, texts)
        self.open_tokens = 0 if found is None else found.num_tokens
        return found

    def is_looping(self) -> bool:
        """Tell whether the last token, not looked at before, is one of a loop."""
        if self._guard is None:
            return False
        return self._guard.feed(self.ids[-1], self._pieces[-1].decode("utf-8", "ignore"))

    def forgive(self, plan: ThinkingPlan) -> None:
        """Forget the loop, which has been answered with a nudge."""
        self.nudged = True
        self._guard = LoopGuard(plan.loop)

    def makes_progress(self, kept: int) -> bool:
        """Tell whether the last line of the first `kept` tokens differs from those at the two ends before."""
        text = b"".join(self._pieces[:kept]).decode("utf-8", "ignore").strip()
        conclusion = " ".join(text.rsplit("\n", 1)[-1].lower().split())
        self._conclusions.append(conclusion)
        self.stuck = self._conclusions[-_SAME_ROUNDS - 1 :] == [conclusion] * (_SAME_ROUNDS + 1)
        return not self.stuck

    def tokens_to_drop(self, *, far: bool) -> int:
        """Return how many tokens to take back before a cut: half a tag, half a character; far: half a sentence."""
        least = self.num_torn
        most = max(len(self.ids) - self.zones.hold, least) if far else least
        return best_cut(self._pieces, least, most)
