"""How long models' thoughts were: counts only, kept in a small file of the user's."""

from __future__ import annotations

import fcntl
import json
import os
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..runtime.thinking.plan import ThinkingReport

_KEPT = 200  # replies per model
_NATURAL = ("natural", "eos", "tool")
_MIN_SHARE, _ENOUGH = 0.15, 5
_LOW, _HIGH, _CUT = 0.7, 0.9, 0.1


@dataclass(frozen=True, slots=True)
class Thought:
    """One reply's thought: tokens, the budget that the user had set (None: none), and how it ended."""

    tokens: int
    budget: int | None
    reason: str


class ThinkLog:
    """The last replies' thoughts by model. A file that cannot be read counts as empty."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "thinking.json"

    def models(self) -> list[str]:
        """Return the models that there is something of."""
        return sorted(self._read())

    def thoughts(self, model: str) -> list[Thought]:
        """Return a model's last thoughts, the oldest first."""
        return [Thought(*row) for row in self._read().get(model, ())]  # type: ignore[arg-type]  # _is_row

    def add(self, model: str, report: ThinkingReport) -> None:
        """Note a thought; a state folder that cannot be written to stays as it is."""
        if report.reason is None or not report.tokens:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                rows = self._read()
                # A thought that was told to go on says nothing of how long it would have been.
                waited = report.rounds and report.reason in _NATURAL
                mine = [
                    *rows.get(model, ()),
                    [report.tokens, report.requested, "extended" if waited else report.reason],
                ]
                rows[model] = mine[-_KEPT:]
                fresh = self.path.with_suffix(f".{os.getpid()}")
                fresh.write_text(json.dumps(rows))
                fresh.replace(self.path)
        except OSError:
            return

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> dict[str, list[list[object]]]:
        try:
            rows = json.loads(self.path.read_text())
            return {str(model): [list(row) for row in kept if _is_row(row)] for model, kept in rows.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}


@dataclass(frozen=True, slots=True)
class Habit:
    """What a model's thoughts are like: natural lengths, and how budgets were used; None where nothing is known."""

    count: int
    median: int | None
    p90: int | None
    with_budget: int
    utilisation: float | None
    reasons: Mapping[str, float]
    advice: str


def habit(thoughts: Sequence[Thought]) -> Habit:
    """Sum up; advises a higher budget where more than 10 % of thoughts were cut or over 90 % of it is used, a lower
    one where less than 70 % is."""
    natural = sorted(thought.tokens for thought in thoughts if thought.reason in _NATURAL)
    budgets = [thought for thought in thoughts if thought.budget]
    used = statistics.mean(min(t.tokens / t.budget, 1.0) for t in budgets if t.budget) if budgets else None
    cut = sum(thought.reason in ("hard", "landing") for thought in budgets) / len(budgets) if budgets else 0.0
    return Habit(
        count=len(thoughts),
        median=natural[len(natural) // 2] if natural else None,
        p90=natural[min(len(natural) * 9 // 10, len(natural) - 1)] if natural else None,
        with_budget=len(budgets),
        utilisation=used,
        reasons={why: n / len(thoughts) for why, n in Counter(t.reason for t in thoughts).most_common()},
        advice=_advice(used, cut),
    )


def too_small(budget: int, thoughts: Sequence[Thought]) -> str | None:
    """Return a warning if a budget is far below a model's usual thought; None if it is not, or nobody knows."""
    natural = [thought for thought in thoughts if thought.reason in _NATURAL]
    median = habit(natural).median if len(natural) >= _ENOUGH else None
    if median is None or budget >= _MIN_SHARE * median:
        return None
    usual = f"this model's usual thought of {median} tokens"
    return f"a budget of {budget} is far below {usual}: --think off may answer better"


def _advice(used: float | None, cut: float) -> str:
    if used is None:
        return "no budgets were set"
    if cut > _CUT or used > _HIGH:
        return f"raise the budget: {cut:.0%} of thoughts were cut, {used:.0%} of it is used"
    if used < _LOW:
        return f"lower the budget, or leave it: only {used:.0%} of it is used"
    return f"the budget fits: {used:.0%} of it is used"


def _is_row(row: object) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], int)
        and isinstance(row[1], int | None)
        and isinstance(row[2], str)
    )
