"""Measure what prompt lookup gains: the same reply with and without it, slice by slice in turns.

    python bench/speculation.py MODEL.gguf
    python bench/speculation.py MODEL.gguf --costs
    python bench/synthetic.py qwen3-0.6b q4_k_m MODEL.gguf --vocab …/ggml-vocab-qwen2.gguf     makes such a file

The model's choices are replaced by those of a fixed text, after each was drawn as usual: as many guesses are right as
real text would give, and every step computes what it would. (Random weights alone would soon go round in a loop, which
is guessed too easily.)

    code     the prompt holds a source file, the reply is the file with an edit in most of its functions
    prose    a text of its own, which repeats nothing but what English does

Both ways run at the same time on caches of their own, a slice of the reply each in turn, so that whatever else the
machine does meets both. The time of a slice is the median over the rounds, or for "quietest" the least; the ratio is of
their sums, above 1 where speculation is faster. Only decoding counts. --costs shows what a step of several tokens takes
beside a step of one, in turns as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import torch
from mull.cli.bench import cpu_name
from mull.models.batch import Span
from mull.models.checkpoint.open import open_checkpoint
from mull.runtime.backend import BLOCK_SIZE, Backend
from mull.runtime.blocks import BlockPool
from mull.runtime.engine import Engine
from mull.runtime.load_options import LoadOptions
from mull.runtime.request import Output, Request
from mull.runtime.runner import ModelRunner
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.sampling.sampler import Sampler
from mull.runtime.scheduler import Scheduler
from mull.runtime.sequence import Sequence
from mull.runtime.speculative.speculator import Speculator
from mull.runtime.tokenizer.load import load_tokenizer
from mull.runtime.tokenizer.tokenizer import Tokenizer
from torch import Tensor

TEXTS = Path(__file__).resolve().parent / "texts"
CONTEXT = 4096
ARMS = ("plain", "speculating")


class Replay(Sampler):
    """Draws as usual, and then takes what the text says."""

    def __init__(self, text: list[int]) -> None:
        self._text = iter(text)

    def draw(self, logits: Tensor, sequence: Sequence) -> int | None:
        """Return the text's next token."""
        super().draw(logits, sequence)
        return next(self._text)


@dataclass(frozen=True)
class Task:
    """A prompt, and the reply that is replayed."""

    prompt: list[int]
    reply: list[int]


def tasks(tokenizer: Tokenizer, most: int) -> dict[str, Task]:
    """Return what is measured, replies cut to `most` tokens."""

    def task(prompt: str, reply: str) -> Task:
        return Task(tokenizer.encode(prompt), tokenizer.encode(reply)[:most])

    code, edited, prose = ((TEXTS / f"{name}.txt").read_text() for name in ("code", "code_edited", "prose"))
    ask = "Make this module safe to use from several threads, and annotate it. Return the whole file."
    return {
        "code": task(f"{ask}\n\n```python\n{code}```\n\n```python\n", edited),
        "prose": task("Write an essay about life by a sea loch in the west of Scotland.\n\n", prose),
    }


class Arm:
    """One reply under way in an engine of its own."""

    def __init__(self, runner: ModelRunner, task: Task, speculator: Speculator | None) -> None:
        pool = BlockPool(runner.cache.num_blocks, BLOCK_SIZE, reuse=False)
        scheduler = Scheduler(pool, max_context=CONTEXT)
        self._engine = Engine(runner, pool, scheduler, Sampler(), lambda: _Silent(), proposer=speculator)
        self._engine.sampler = Replay([*task.reply, 0])  # a token may be drawn beyond the end
        params = SamplingParams(temperature=0, max_tokens=len(task.reply))
        self._engine.submit(Request(tuple(task.prompt), params))
        self._task = task
        self._tokens: list[int] = []
        self.seconds: list[float] = []
        self.last: Output | None = None
        while not self._tokens:
            self._step()

    @property
    def is_done(self) -> bool:
        """Tell whether the reply is complete."""
        return not self._engine.has_work

    def advance(self, end: int) -> None:
        """Go on until the reply has at least `end` tokens."""
        started = time.perf_counter()
        while len(self._tokens) < end and not self.is_done:
            self._step()
        self.seconds.append(time.perf_counter() - started)

    def check(self) -> None:
        """Assert that the reply is the text."""
        assert self._tokens == self._task.reply, "another text came out"

    def _step(self) -> None:
        for output in self._engine.step():
            self._tokens += output.tokens
            self.last = output


class _Silent:
    """A detokenizer that says nothing."""

    def feed(self, token: int) -> str:
        """Return no text."""
        del token
        return ""

    def flush(self) -> str:
        """Return no text."""
        return ""


@dataclass(frozen=True)
class Round:
    """The seconds of each slice, both ways, and what was guessed."""

    plain: list[float]
    speculating: list[float]
    counts: dict[str, float]


def measure(runners: list[ModelRunner], task: Task, arguments: argparse.Namespace) -> Round:
    """Return the figures of one round."""
    speculator = Speculator(arguments.fixed)
    arms = [Arm(runners[0], task, None), Arm(runners[1], task, speculator)]
    end, turn = 1, 0
    while not all(arm.is_done for arm in arms):
        end += arguments.slice
        # Who goes first alternates.
        for arm in arms if turn % 2 else reversed(arms):
            arm.advance(end)
        turn += 1
    for arm in arms:
        arm.check()
    last = arms[1].last
    assert last is not None
    counts = {
        "drafted": last.num_drafted,
        "accepted": last.num_accepted,
        "tokens_per_step": last.num_sampled / (last.num_sampled - last.num_accepted),
    }
    return Round(arms[0].seconds, arms[1].seconds, counts)


def summarise(rounds: list[Round], task: Task) -> dict[str, float]:
    """Return the figures of all rounds of one text."""

    def total(slices: Iterable[Iterable[float]], choose: Callable[[Iterable[float]], float]) -> float:
        return sum(choose(times) for times in slices)

    plain = list(zip_longest(*(each.plain for each in rounds), fillvalue=0.0))
    speculating = list(zip_longest(*(each.speculating for each in rounds), fillvalue=0.0))
    usual = total(plain, statistics.median), total(speculating, statistics.median)
    count = len(task.reply) - 1
    medians = {key: statistics.median(each.counts[key] for each in rounds) for key in rounds[0].counts}
    return {
        "plain": count / usual[0],
        "speculating": count / usual[1],
        "ratio": usual[0] / usual[1],
        "quietest": total(plain, min) / total(speculating, min),
        "prompt": len(task.prompt),
        "reply": len(task.reply),
        **medians,
    }


def costs(runner: ModelRunner, rounds: int) -> dict[int, float]:
    """Return what a step of so many tokens takes after 512 others, beside a step of one."""
    blocks = list(range(runner.cache.num_blocks))
    ids = torch.randint(0, 50000, (600,), generator=torch.Generator().manual_seed(0)).tolist()
    sizes = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)
    out = torch.empty(max(sizes), runner.model.config.vocab_size)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    with torch.inference_mode():
        runner.model.step([Span(ids[:512], 0, blocks, 1)], runner.cache)
        for _ in range(rounds):
            for size in sizes:
                started = time.perf_counter()
                runner.model.step([Span(ids[512 : 512 + size], 512, blocks, size)], runner.cache, out=out)
                times[size].append(time.perf_counter() - started)
    return {
        size: statistics.median(m / one for m, one in zip(found, times[1], strict=True))
        for size, found in times.items()
    }


def main() -> None:
    """Read the command line, measure in turns, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1024, help="the most tokens of a reply")
    parser.add_argument("--slice", type=int, default=16, help="tokens of a turn")
    parser.add_argument("--texts", default="code,prose")
    parser.add_argument("--fixed", type=int, help="guess so many tokens at each match, whatever they cost")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--costs", action="store_true", help="show what steps of several tokens cost")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    checkpoint = open_checkpoint(arguments.model)
    tokenizer = load_tokenizer(checkpoint)
    backend = Backend(checkpoint, LoadOptions(num_ctx=CONTEXT, threads=arguments.threads))
    model = backend.load(None)
    runners = [ModelRunner(model, backend.new_cache(model, CONTEXT)) for _ in ARMS]
    result: dict[str, object] = {
        "machine": cpu_name(),
        "threads": backend.threads,
        "backend": backend.description,
        "model": arguments.model.name,
    }
    if arguments.costs:
        result["costs"] = costs(runners[0], 3 * arguments.rounds)
    wanted = tasks(tokenizer, arguments.tokens)
    samples: dict[str, list[Round]] = {name: [] for name in arguments.texts.split(",")}
    for number in range(arguments.rounds):
        for name, found in samples.items():
            found.append(measure(runners, wanted[name], arguments))
            if not arguments.json and sys.stderr.isatty():
                ratio = sum(found[-1].plain) / sum(found[-1].speculating)
                print(f"round {number + 1}: {name} {ratio:.3f}", file=sys.stderr)
    figures = {name: summarise(found, wanted[name]) for name, found in samples.items()}
    result["texts"] = figures
    print(json.dumps(result, indent=1) if arguments.json else table(result, figures))


def table(result: dict[str, object], figures: dict[str, dict[str, float]]) -> str:
    """Return the figures as text."""
    lines = [f"{result['model']} on {result['machine']}, {result['threads']} threads, {result['backend']}"]
    for name, figure in figures.items():
        lines.append(
            f"{name:6} {figure['plain']:7.1f} -> {figure['speculating']:7.1f} tok/s   ratio {figure['ratio']:.3f} "
            f"(quietest {figure['quietest']:.3f})   drafted {figure['drafted']:.0f}, accepted {figure['accepted']:.0f} "
            f"of {figure['reply']:.0f} tokens, {figure['tokens_per_step']:.2f} a step"
        )
    if isinstance(result.get("costs"), dict):
        lines.append("costs  " + "  ".join(f"{size}: {cost:.2f}" for size, cost in result["costs"].items()))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
