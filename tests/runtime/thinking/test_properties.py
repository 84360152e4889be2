"""What holds for every stream of tokens: the budget, the answer, and that nothing shown is taken back."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from mull.runtime.thinking.plan import ThinkingPlan

from .simulation import CLOSE, EOS, LETTERS, OPEN, PIECES, TAGS, TOOL, Run, ids_of, run, thinking_tokens


def random_plan(rng: random.Random) -> ThinkingPlan:
    """Return any plan at all."""
    marks = TAGS
    if rng.random() < 0.3:
        # Tags that are no token of their own.
        marks = replace(
            marks, close=ids_of("\n</") + ids_of("think>\n"), end_id=LETTERS[b"</"], single=frozenset()
        )
        marks = replace(marks, close=tuple(t for t in marks.close))
    if rng.random() < 0.3:
        marks = replace(marks, tool_ends=True)
    budget = rng.choice([0, 1, 2, 3, 5, 8, 13, 24, 40, 100, 250])
    return ThinkingPlan(
        marks,
        budget=budget,
        opened=rng.random() < 0.5,
        message=ids_of("d . d .\n") if rng.random() < 0.4 else (),
        minimum=rng.choice([0, 0, 4, budget // 2, budget]),
        rounds=rng.choice([0, 0, 1, 3]),
        waits=(ids_of("\n bee"), ids_of(" sea")),
        soft=rng.choice([0.0, 0.5, 0.75, 1.0]),
        loop=rng.choice([0, 2, 3]),
        nudge=ids_of("\n sea.") if rng.random() < 0.2 else (),
        exit=rng.choice([None, None, 0.5]),
        answer_prefix=ids_of("a "),
    )


def random_run(seed: int) -> tuple[ThinkingPlan, Run]:
    """Follow a random stream under a random plan."""
    rng = random.Random(seed)
    plan = random_plan(rng)
    weights = [rng.random() ** 3 for _ in PIECES]
    weights[EOS] *= 0.2
    if not plan.opened and rng.random() < 0.7:
        weights[OPEN] += 3
    loop = [rng.randrange(4, 10) for _ in range(rng.randint(3, 9))] if rng.random() < 0.1 else None

    def draw(tokens: list[int]) -> int:
        if loop:
            return loop[len(tokens) % len(loop)]
        return rng.choices(range(len(PIECES)), weights)[0]

    return plan, run(plan, draw, most=300, temperature=rng.choice([0.0, 1.0]), seed=seed)


def check(seed: int) -> None:
    """Check one stream."""
    plan, made = random_run(seed)
    thought = made.automaton.num_thinking
    assert thought <= plan.budget, f"seed {seed}: {thought} tokens of thought, {plan.budget} allowed"
    counted = thinking_tokens(made.tokens, opened=plan.opened)
    assert counted <= plan.budget, f"seed {seed}: {counted} counted, {plan.budget} allowed"
    assert counted == thought, f"seed {seed}: {thought} reported, {counted} counted"
    if EOS in made.tokens:
        assert not made.automaton.thinking, f"seed {seed}: the reply ended within a thought"
        if made.automaton.report().reason is not None:
            answer = made.text.split("</think>", 1)[1].removesuffix("<|im_end|>")
            assert answer.strip(), f"seed {seed}: no answer after the thought"
    if plan.marks.single and made.automaton.report().reason is not None:
        # A stream may also spell the tag letter by letter.
        assert made.tokens.count(CLOSE) <= 1, f"seed {seed}: a second end"
        assert "</think>" in made.text
        assert made.tokens.count(OPEN) + plan.opened >= 1
    if not plan.marks.tool_ends and made.automaton.report().reason is not None:
        at = made.text.find("</think>")
        assert "<tool_call>" not in made.text[:at].split("<think>")[-1], (
            f"seed {seed}: a call within a thought"
        )


def test_random_streams():
    for seed in range(1500):
        check(seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_very_many_random_streams():
    for seed in range(100_000):
        check(seed)


def test_the_streams_are_of_many_kinds():
    """The streams above end in every way that there is; else the test above says little."""
    reasons = {random_run(seed)[1].automaton.report().reason for seed in range(800)}
    assert {None, "natural", "soft", "landing", "hard", "eos", "loop", "tool"} <= reasons
    assert TOOL in random_run(3)[1].tokens or any(TOOL in random_run(seed)[1].tokens for seed in range(50))
