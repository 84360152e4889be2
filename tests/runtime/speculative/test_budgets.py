"""Tests that a reply has the same tokens however many are drafted, and whoever guesses them, budgets or not."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mull.llm
import pytest
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done
from mull.llm import LLM
from mull.runtime.load_options import LoadOptions
from mull.runtime.sequence import Sequence as Reply
from mull.runtime.speculative.load import make_proposer
from mull.runtime.speculative.speculator import Speculator

OPTIONS: list[dict[str, object]] = [
    {"temperature": 0},
    {"temperature": 0, "think": 5},
    {"temperature": 0.9, "think": 17},
    {"temperature": 0, "think_min": 12, "think_rounds": 3},
    {"temperature": 0.9, "think_exit": "confidence:0.1", "think_reserve": 0},
    {"temperature": 0.9, "think": "off"},
]


class Junk:
    """Guesses any tokens at all, tags and ends among them."""

    def __init__(self, vocab_size: int) -> None:
        self.fixed: int | None = 0
        self._vocabulary = range(vocab_size)
        self._rng = random.Random(0)

    def propose(self, sequences: Sequence[Reply]) -> None:
        """Fill the drafts of those sequences that reply."""
        for sequence in sequences:
            if not sequence.is_reading:
                sequence.drafts = self._rng.choices(self._vocabulary, k=self.fixed or 0)

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Learn nothing."""


@dataclass
class Guessing:
    """The demo model, and what guesses for it: the text so far, the model itself, or nobody who knows anything."""

    who: str
    llm: LLM
    proposer: Junk | Speculator


@pytest.fixture(scope="module", params=["text", "itself", "junk"])
def guessing(request: pytest.FixtureRequest) -> Iterator[Guessing]:
    """The model with each of the three."""
    who: str = request.param
    made: list[Junk | Speculator] = []

    def make(*arguments: Any) -> Junk | Speculator:
        made.append(Junk(512) if who == "junk" else make_proposer(*arguments))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mull.llm, "make_proposer", make)
        with LLM.open(
            "pocket", LoadOptions(speculate="1", draft="pocket" if who == "itself" else None)
        ) as llm:
            yield Guessing(who, llm, made[0])


def ask(llm: LLM, options: dict[str, object]) -> Done:
    """Return the end of a reply, which holds all its tokens; every token that was computed is accounted for."""
    message = Message("user", "What is 347 + 685?")
    *_, done = llm.chat(ChatRequest((message,), options={"seed": 7, **options}))
    assert isinstance(done, Done)
    report, usage = done.thinking.report, done.usage
    assert report is not None
    assert usage.forwarded_tokens == (
        usage.prompt_tokens - usage.cached_tokens + usage.sampled_tokens - 1 + report.injected
        + report.probe_tokens + usage.drafted_tokens - usage.accepted_tokens
    )  # fmt: skip
    return done


def counts(done: Done) -> tuple[object, ...]:
    """Return what became of the thought, but for the time that it took."""
    report = done.thinking.report
    assert report is not None
    return report.tokens, report.reason, report.injected, report.discarded, report.probe_tokens


@pytest.fixture(scope="module")
def expected() -> list[Done]:
    """The replies without guesses."""
    with LLM.open("pocket", LoadOptions(speculate="off")) as llm:
        return [ask(llm, options) for options in OPTIONS]


@pytest.mark.parametrize("count", range(1, 9))
def test_no_token_depends_on_guesses(expected: list[Done], guessing: Guessing, count: int) -> None:
    guessing.proposer.fixed = count
    found = [ask(guessing.llm, options) for options in OPTIONS]
    for plain, done in zip(expected, found, strict=True):
        assert done.token_ids == plain.token_ids
        assert counts(done) == counts(plain)
        assert done.reason == plain.reason
    drafted = sum(done.usage.drafted_tokens for done in found)
    accepted = sum(done.usage.accepted_tokens for done in found)
    assert accepted < drafted / 10 if guessing.who == "junk" else 0 < accepted <= drafted
    if guessing.who == "itself":
        usage = found[0].usage
        assert usage.accepted_tokens > usage.completion_tokens // 4
