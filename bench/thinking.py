"""Measure what each way of limiting thoughts does to answers, on problems whose answers are known.

    python bench/thinking.py [MODEL] [--problems 2000] [--arms cut,soft,…] [--budgets 8,16,…] [--json F] [--plot F]

MODEL is "pocket" or another GGUF that was trained on its problems (`python -m mull.models.pocket.train --variant`).
Every arm gets the same problems with the same seeds. Printed are, for each arm and budget: how many answers are right
with Wilson's 95 % interval, how many replies have an answer, how many go on thinking in it ("escape"), thoughts over
their budget (there must be none), tokens of thought, and all tokens that were computed, re-computed prompts among
them; for arms with a budget also the one-sided p of McNemar's exact test that it is worse than the bare cut.

The problems are synthetic and the model tiny: what is lost or won here need not be so for others.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Reasoning, Text
from mull.cli.vote import take_vote
from mull.llm import LLM
from mull.models.pocket.evaluate import heldout_problems
from mull.models.pocket.problems import Problem, grade
from mull.runtime.load_options import LoadOptions

BUDGETS = (8, 16, 24, 32, 48, 64, 96, 128, 256)
AT_ONCE = 32
MOST = 600  # tokens of a reply
ANSWER = 40  # tokens, at most
MESSAGE = "\nTime is up."
ONE_BY_ONE = 300  # problems of the arm that cannot be answered side by side


@dataclass(frozen=True, slots=True)
class Answered:
    """One problem as one arm left it."""

    right: bool
    answer: str
    thinking: int
    forwarded: int
    reason: str | None
    escaped: bool
    over: bool


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of answering: options of the request, given the budget; `solve` replaces one plain request."""

    name: str
    options: Callable[[int], Mapping[str, object]]
    budgeted: bool = True
    solve: Callable[[LLM, Sequence[Problem], int], list[Answered]] | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """An arm at a budget, summed up."""

    arm: str
    budget: int | None
    problems: int
    right: int
    low: float
    high: float
    answered: float
    escaped: float
    violations: int
    thinking_mean: float
    thinking_p95: int
    utilisation: float | None
    forwarded: float
    seconds: float
    worse_than_cut: float | None
    reasons: Mapping[str, int] = field(default_factory=dict)


# How to ask.


@dataclass(slots=True)
class Reply:
    """A whole reply."""

    text: str = ""
    thought: str = ""
    done: Done | None = None


def ask(llm: LLM, requests: Sequence[ChatRequest]) -> list[Reply]:
    """Answer requests, a number of them at a time."""
    replies: list[Reply] = []
    for start in range(0, len(requests), AT_ONCE):
        streams = [llm.chat(request) for request in requests[start : start + AT_ONCE]]
        replies += [gather(stream) for stream in streams]
    return replies


def gather(events: Iterator[object]) -> Reply:
    """Wait for a reply."""
    reply = Reply()
    with closing(events):  # type: ignore[type-var]
        for event in events:
            if isinstance(event, Text):
                reply.text += event.text
            elif isinstance(event, Reasoning):
                reply.thought += event.text
            elif isinstance(event, Done):
                reply.done = event
    return reply


def request_for(problem: Problem, seed: int, options: Mapping[str, object]) -> ChatRequest:
    """Return the question, with the seed that every arm uses for it."""
    return ChatRequest(
        (Message("user", problem.prompt),), options={"seed": seed, "num_predict": MOST, **options}
    )


def judged(problem: Problem, reply: Reply) -> Answered:
    """Judge a reply."""
    done = reply.done
    assert done is not None
    report = done.thinking.report
    tags = reply.text.count("think>")
    return Answered(
        right=bool(reply.text.strip()) and grade(problem, reply.text),
        answer=reply.text.strip(),
        thinking=done.usage.thinking_tokens,
        forwarded=done.usage.forwarded_tokens + done.usage.cached_tokens,
        reason=None if report is None else report.reason,
        escaped=tags > 0 or "Wait" in reply.text,
        over=report is not None and report.tokens > report.budget,
    )


def solve_plainly(llm: LLM, problems: Sequence[Problem], options: Mapping[str, object]) -> list[Answered]:
    """Ask for each problem once."""
    requests = [request_for(problem, seed, options) for seed, problem in enumerate(problems)]
    return [judged(p, reply) for p, reply in zip(problems, ask(llm, requests), strict=True)]


def solve_by_truncation(llm: LLM, problems: Sequence[Problem], budget: int) -> list[Answered]:
    """Cut the whole reply off where a limit on its tokens would have, as max_tokens does elsewhere.

    The limit is the budget and what the answer takes: a longer thought leaves no answer.
    """
    cut = []
    for found in _whole_replies(llm, tuple(problems)):
        over = found.thinking - budget
        left_out = Answered(False, "", budget, found.forwarded - over, "hard", False, False)
        cut.append(left_out if over > 0 else found)
    return cut


@functools.cache
def _whole_replies(llm: LLM, problems: tuple[Problem, ...]) -> list[Answered]:
    return solve_plainly(llm, problems, {"think_loop": "off"})


def solve_by_vote(llm: LLM, problems: Sequence[Problem], count: int) -> list[Answered]:
    """Answer each problem `count` times and take the answer of most."""
    requests = [
        request_for(problem, seed * 100 + number, {})
        for seed, problem in enumerate(problems)
        for number in range(count)
    ]
    replies = ask(llm, requests)
    found = []
    for index, problem in enumerate(problems):
        mine = [judged(problem, reply) for reply in replies[index * count : (index + 1) * count]]
        chosen = mine[take_vote([one.answer for one in mine]).index]
        found.append(
            Answered(
                chosen.right,
                chosen.answer,
                sum(one.thinking for one in mine),
                sum(one.forwarded for one in mine),
                chosen.reason,
                chosen.escaped,
                False,
            )
        )
    return found


def solve_by_restarting(llm: LLM, problems: Sequence[Problem], budget: int) -> list[Answered]:
    """The loop of a well-known tutorial: whenever a thought ends, a new request with "Wait" put after it, until the
    budget is used up; then one more for the answer. Everything before is computed again each time. Each problem waits
    for the one before it, so only some of them are taken."""
    found = []
    for seed, problem in enumerate(problems[:: max(1, len(problems) // ONE_BY_ONE)]):
        opening = f"<|im_start|>user\n{problem.prompt}<|im_end|>\n<|im_start|>assistant\n<think>\n"
        thought, used, forwarded = "", 0, 0
        while used < budget:
            options = {
                "seed": seed, "num_predict": budget - used + 2, "stop": ["</think>"],
                "think_reserve": 1, "think_soft": 0, "think_message": "", "think_loop": "off",
            }  # fmt: skip
            reply = gather(llm.chat(ChatRequest(raw=opening + thought, options=options)))
            assert reply.done is not None
            usage = reply.done.usage
            forwarded += usage.forwarded_tokens + usage.cached_tokens
            used += max(usage.completion_tokens, 1)
            thought += reply.thought + reply.text + "\nWait"
        final = ChatRequest(
            raw=f"{opening}{thought}\n</think>\n\n", options={"seed": seed, "num_predict": ANSWER}
        )
        reply = gather(llm.chat(final))
        last = judged(problem, reply)
        found.append(
            Answered(
                last.right, last.answer, used, forwarded + last.forwarded, "hard", last.escaped, used > budget
            )
        )
    return found


BARE: Mapping[str, object] = {"think_soft": 0, "think_message": "", "think_loop": "off"}

ARMS = (
    Arm("truncated", lambda budget: {}, solve=solve_by_truncation),
    Arm("cut", lambda budget: {**BARE, "think": budget}),
    Arm("cut + message", lambda budget: {**BARE, "think": budget, "think_message": MESSAGE}),
    Arm("soft", lambda budget: {"think": budget, "think_message": "", "think_loop": "off"}),
    Arm("soft + message", lambda budget: {"think": budget, "think_message": MESSAGE, "think_loop": "off"}),
    Arm("default", lambda budget: {"think": budget}),
    Arm("restarting", lambda budget: {}, solve=solve_by_restarting),
    Arm("no limit", lambda budget: {"think_loop": "off"}, budgeted=False),
    Arm("loop guard", lambda budget: {}, budgeted=False),
    Arm("no thinking", lambda budget: {"think": "off"}, budgeted=False),
    Arm("early exit", lambda budget: {"think_exit": "confidence:0.95"}, budgeted=False),
    *(
        Arm(f"wait x{rounds}", lambda budget, r=rounds: {"think_rounds": r}, budgeted=False)  # type: ignore[misc]
        for rounds in (1, 2, 4)
    ),
    *(
        Arm(
            f"vote of {n}",
            lambda budget: {},
            budgeted=False,
            solve=lambda llm, ps, _, n=n: solve_by_vote(llm, ps, n),
        )  # type: ignore[misc]
        for n in (2, 3, 5)
    ),
)


# What it comes to.


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a share."""
    share, scale = right / total, 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / scale
    return middle - half, middle + half


def mcnemar_worse(arm: Sequence[bool], base: Sequence[bool]) -> float:
    """Return the one-sided exact p that `arm` is worse than `base` on the same problems."""
    lost = sum(b and not a for a, b in zip(arm, base, strict=True))
    won = sum(a and not b for a, b in zip(arm, base, strict=True))
    total = lost + won
    return sum(math.comb(total, k) for k in range(lost, total + 1)) / 2**total if total else 1.0


def measure(llm: LLM, arm: Arm, budget: int, problems: Sequence[Problem]) -> tuple[list[Answered], float]:
    """Answer all problems in one arm; returns them and the seconds that it took."""
    started = time.perf_counter()
    solve = arm.solve
    found = (
        solve(llm, problems, budget)
        if solve is not None
        else solve_plainly(llm, problems, arm.options(budget))
    )
    return found, time.perf_counter() - started


def point(
    arm: Arm, budget: int, found: Sequence[Answered], seconds: float, base: Sequence[bool] | None
) -> Point:
    """Sum up one arm at one budget."""
    right = [one.right for one in found]
    low, high = wilson(sum(right), len(right))
    thinking = sorted(one.thinking for one in found)
    return Point(
        arm.name,
        budget if arm.budgeted else None,
        len(found),
        sum(right),
        round(low, 4),
        round(high, 4),
        statistics.fmean(bool(one.answer) for one in found),
        statistics.fmean(one.escaped for one in found),
        sum(one.over or (arm.budgeted and one.thinking > budget) for one in found),
        statistics.fmean(thinking),
        thinking[int(len(thinking) * 0.95)],
        statistics.fmean(thinking) / budget if arm.budgeted else None,
        statistics.fmean(one.forwarded for one in found),
        round(seconds, 1),
        None if base is None else mcnemar_worse(right, base),
        dict(Counter(one.reason or "none" for one in found).most_common()),
    )


def table(points: Sequence[Point]) -> str:
    """Lay the points out in Markdown."""
    lines = [
        "| arm | budget | right | 95 % | answered | escaped | over | thought, mean / p95 | computed | p worse | ends |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for p in points:
        worse = "" if p.worse_than_cut is None else f"{p.worse_than_cut:.3f}"
        ends = ", ".join(f"{why} {n}" for why, n in p.reasons.items())
        lines.append(
            f"| {p.arm} | {'' if p.budget is None else p.budget} | {p.right / p.problems:.1%} "
            f"| {p.low:.1%}–{p.high:.1%} | {p.answered:.1%} | {p.escaped:.1%} | {p.violations} "
            f"| {p.thinking_mean:.1f} / {p.thinking_p95} | {p.forwarded:.0f} | {worse} | {ends} |"
        )
    return "\n".join(lines)


def plot(points: Sequence[Point], path: Path) -> None:
    """Draw accuracy over the tokens that were computed, a line per arm."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name in dict.fromkeys(p.arm for p in points):
        mine = [p for p in points if p.arm == name]
        share = [p.right / p.problems for p in mine]
        pairs = list(zip(share, mine, strict=True))
        spread = [[s - p.low for s, p in pairs], [p.high - s for s, p in pairs]]
        style = "o-" if mine[0].budget is not None else "s"
        axes.errorbar(
            [p.forwarded for p in mine], share, yerr=spread, fmt=style, markersize=4, linewidth=1, label=name
        )
    axes.set_xlabel("tokens computed for one problem")
    axes.set_ylabel("right answers")
    axes.legend(fontsize=7, ncol=2)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Read the command line, run the arms, print and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="pocket")
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--arms", help="names, by commas; all by default")
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    wanted = args.arms.split(",") if args.arms else [arm.name for arm in ARMS]
    per_kind = math.ceil(args.problems / 3)
    problems = heldout_problems(per_kind)[: args.problems]
    budgets = [int(part) for part in args.budgets.split(",")]
    points: list[Point] = []
    base: dict[int, list[bool]] = {}
    with LLM.open(args.model, LoadOptions(threads=args.threads, speculate="off")) as llm:
        for arm in (arm for arm in ARMS if arm.name in wanted):
            for budget in budgets if arm.budgeted else budgets[:1]:
                found, seconds = measure(llm, arm, budget, problems)
                if arm.name == "cut":
                    base[budget] = [one.right for one in found]
                comparable = arm.budgeted and arm.name != "cut" and len(found) == len(problems)
                against = base.get(budget) if comparable else None
                points.append(point(arm, budget, found, seconds, against))
                print(table(points[-1:]).splitlines()[-1], flush=True)
    print("\n" + table(points))
    if args.json is not None:
        args.json.write_text(
            json.dumps({"model": args.model, "points": [asdict(p) for p in points]}, indent=1)
        )
    if args.plot is not None:
        plot(points, args.plot)


if __name__ == "__main__":
    main()
