"""Several answers to one question, and the one that most of them agree on (self-consistency, arXiv 2203.11171)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_BOXED = re.compile(r"\\boxed\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_SAID = re.compile(r"(?:answer|result)\s*(?:is|:|=)\s*(.+)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_MOST = 64


@dataclass(frozen=True, slots=True)
class Vote:
    """The outcome: what was voted for, by how many of how many, the winner's first reply, and all counts."""

    answer: str
    votes: int
    total: int
    index: int
    counts: dict[str, int]

    def __str__(self) -> str:
        others = ", ".join(f"{count}: {text}" for text, count in self.counts.items() if text != self.answer)
        return f"vote {self.votes}/{self.total}: {self.answer}" + (f" (others {others})" if others else "")


def final_answer(text: str) -> str:
    r"""Return what a reply answers: what it boxes, or says after "answer is", its last number, or all of it."""
    boxed = _BOXED.findall(text)
    said = _SAID.findall(text)
    found = boxed[-1] if boxed else said[-1] if said else text
    numbers = _NUMBER.findall(found) if boxed or said else _NUMBER.findall(text)
    if numbers and not (boxed and not _NUMBER.fullmatch(found.strip())):
        return str(numbers[-1]).replace(",", "").removeprefix("+")
    return " ".join(found.lower().split()).strip(" .!*`\"'")


def take_vote(texts: Sequence[str]) -> Vote:
    """Count what the replies answer; empty ones do not vote, of equal numbers the first to come wins."""
    answers = [final_answer(text) for text in texts]
    counts = Counter(answer for answer in answers if answer)
    if not counts:
        return Vote("", 0, len(texts), 0, {})
    winner, votes = counts.most_common(1)[0]
    return Vote(winner, votes, len(texts), answers.index(winner), dict(counts.most_common(_MOST)))
