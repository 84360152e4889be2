"""`llm bench`: tokens per second of prompts and of generation, with llama-bench's tests and columns."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest
from ..settings import load_settings
from .opening import open_llm
from .options import Model, ModelFlags, with_groups
from .terminal import Terminal

if TYPE_CHECKING:
    from ..llm import LLM

# Column, width; negative widths align to the left.
_COLUMNS = (
    ("model", -30), ("size", 10), ("params", 10), ("backend", -10), ("threads", 7), ("fa", 2),
    ("test", 15), ("t/s", 20), ("attention memory", 16),
)  # fmt: skip
# Columns that --flash adds.
_OF_FLASH = ("fa", "attention memory")


@dataclass(frozen=True, slots=True)
class TestFlags:
    """What is measured, and how often; options may be repeated or hold several numbers."""

    num_prompt: Annotated[
        list[str] | None,
        typer.Option("--num-prompt", "-p", metavar="N,...", help="Prompt lengths; 0: none. [default: 512]"),
    ] = None
    num_gen: Annotated[
        list[str] | None,
        typer.Option("--num-gen", "-n", metavar="N,...", help="Tokens to generate; 0: none. [default: 128]"),
    ] = None
    depth: Annotated[
        list[str] | None,
        typer.Option("--depth", "-d", metavar="N,...", help="Tokens in the cache before. [default: 0]"),
    ] = None
    repetitions: Annotated[
        int, typer.Option("--repetitions", "-r", min=1, metavar="N", help="Runs of each test.")
    ] = 5
    flash: Annotated[
        list[str] | None,
        typer.Option(
            "--flash",
            metavar="on|off,...",
            help="Attention tile by tile (on), or with all scores in memory (off), to compare. [default: on]",
        ),
    ] = None

    def plan(self) -> list[Test]:
        """Return the tests in llama-bench's order, with both attentions of one test side by side.

        Raises InvalidRequest if nothing is left to measure.
        """
        prompts = _numbers(self.num_prompt, 512, "-p")
        generated = _numbers(self.num_gen, 128, "-n")
        attentions = _attentions(self.flash)
        tests = []
        for depth in _numbers(self.depth, 0, "-d"):
            tests += [Test(n, 0, depth, flash) for n in prompts if n for flash in attentions]
            tests += [Test(0, n, depth, flash) for n in generated if n for flash in attentions]
        if not tests:
            raise InvalidRequest("-p 0 and -n 0 leave nothing to measure", field="num_prompt")
        return tests


_DEFAULTS, _AUTOMATIC = TestFlags(), ModelFlags()


@with_groups
def command(
    model: Model,
    flags: TestFlags = _DEFAULTS,
    load: ModelFlags = _AUTOMATIC,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Measure a model's speed: pp reads a prompt, tg generates, each in tokens per second.

    Random tokens, one warm-up, then the mean and standard deviation of the runs, as llama-bench does it.

    \b
    Examples:
      llm bench pocket
      llm bench qwen3 -p 512,2048 -n 0
      llm bench qwen3 -p 0 -d 0,4096 -r 3 --threads 8
      llm bench pocket --json
      llm bench qwen3 -p 1024,4096 -n 0 --flash on,off
    """
    tests = flags.plan()
    num_ctx = max(test.num_tokens + test.depth for test in tests)
    results = []
    terminal = Terminal.detect(color=load_settings().color)
    with open_llm(model, load, terminal, num_ctx=num_ctx, quiet=quiet) as llm:
        facts = describe(llm)
        table = Table(facts, flash=flags.flash is not None)
        if not as_json:
            print(table.head())
        for test in tests:
            result = measure(llm, test, flags.repetitions, watched=sys.stderr.isatty() and not quiet)
            results.append(facts | result.to_json())
            if not as_json:
                print(table.row(result), flush=True)
    if as_json:
        import json

        print(json.dumps(results, indent=2, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class Test:
    """What one line measures: `prompt` or `generate` tokens (the other is 0) after `depth` cached ones.

    flash: attention goes through the context tile by tile; else it keeps all scores in memory.
    """

    prompt: int
    generate: int
    depth: int
    flash: bool = True

    @property
    def num_tokens(self) -> int:
        """How many tokens the time is divided by."""
        return self.prompt + self.generate

    @property
    def label(self) -> str:
        """The test as llama-bench calls it: `pp512`, `tg128 @ d4096`."""
        kind = f"pp{self.prompt}" if self.prompt else f"tg{self.generate}"
        return f"{kind} @ d{self.depth}" if self.depth else kind


@dataclass(frozen=True, slots=True)
class Result:
    """The times of one test's runs, in nanoseconds, and what attention worked in; None where that is unknown."""

    test: Test
    started: datetime
    samples_ns: tuple[int, ...]
    attention_bytes: int | None = None

    @property
    def samples_ts(self) -> list[float]:
        """Tokens per second of each run."""
        return [1e9 * self.test.num_tokens / ns for ns in self.samples_ns]

    def to_json(self) -> dict[str, object]:
        """Return the test and its times under llama-bench's names."""
        rates = self.samples_ts
        return {
            "n_prompt": self.test.prompt,
            "n_gen": self.test.generate,
            "n_depth": self.test.depth,
            "flash": self.test.flash,
            "attention_bytes": self.attention_bytes,
            "test_time": self.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "avg_ns": int(mean(self.samples_ns)),
            "stddev_ns": int(deviation(self.samples_ns)),
            "avg_ts": mean(rates),
            "stddev_ts": deviation(rates),
            "samples_ns": list(self.samples_ns),
            "samples_ts": rates,
        }


def measure(llm: LLM, test: Test, repetitions: int, *, watched: bool = False) -> Result:
    """Run a test once to warm up, then `repetitions` times."""
    started = datetime.now(UTC)
    # One generated token warms up as well as a hundred; a prompt's shapes depend on its length.
    _note(watched, f"{test.label}: warming up")
    llm.bench(test.prompt, min(test.generate, 1), 0, flash=test.flash)
    samples = []
    attention = None
    for run in range(repetitions):
        _note(watched, f"{test.label}: run {run + 1} of {repetitions}")
        seconds = llm.bench(test.prompt, test.generate, test.depth, flash=test.flash)
        samples.append(max(1, round(seconds * 1e9)))
        attention = llm.attention_bytes
    _note(watched, "")
    return Result(test, started, tuple(samples), attention)


def describe(llm: LLM) -> dict[str, object]:
    """Return what is the same in every test, under llama-bench's names."""
    from .. import __version__
    from .formats import human_number
    from .headers import quantization

    checkpoint = llm.checkpoint
    kind = f"{checkpoint.architecture} {human_number(checkpoint.num_parameters)} {quantization(checkpoint)}"
    return {
        "build_commit": f"mull {__version__}",
        "cpu_info": cpu_name(),
        "backends": llm.backend,
        "model_filename": str(checkpoint.path),
        "model_type": kind,
        "model_size": checkpoint.nbytes,
        "model_n_params": checkpoint.num_parameters,
        "n_threads": llm.threads,
    }


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name, as well as the system tells it."""
    import platform

    try:
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    return math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample; 0 of a single value."""
    if len(values) < 2:
        return 0.0
    middle = mean(values)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1))


def _numbers(given: Sequence[str] | None, default: int, flag: str) -> list[int]:
    """Read comma-separated numbers, also from a repeated option."""
    return list(_each_number(given, flag)) if given else [default]


def _attentions(given: Sequence[str] | None) -> list[bool]:
    """Read comma-separated `on` and `off`, also from a repeated option."""
    words = ",".join(given).split(",") if given else ["on"]
    for word in words:
        if word not in ("on", "off"):
            raise InvalidRequest(f"--flash takes on, off or on,off, not {word!r}", field="flash")
    return [word == "on" for word in words]


def _each_number(given: Sequence[str], flag: str) -> Iterator[int]:
    for word in ",".join(given).split(","):
        if not (word.isascii() and word.isdigit()) or len(word) > 9:
            raise InvalidRequest(f"{flag} takes numbers such as 512 or 512,1024, not {word!r}", field=flag)
        yield int(word)


class Table:
    """llama-bench's table in Markdown; a column that is the same in all rows is as wide as it needs to be."""

    def __init__(self, facts: Mapping[str, object], *, flash: bool) -> None:
        size, params = facts["model_size"], facts["model_n_params"]
        assert isinstance(size, int)
        assert isinstance(params, int)
        self._same = {
            "model": str(facts["model_type"]),
            "size": _binary(size),
            "params": f"{params / 1e9:.2f} B" if params >= 10**9 else f"{params / 1e6:.2f} M",
            "backend": str(facts["backends"]),
            "threads": str(facts["n_threads"]),
        }
        self._columns = [column for column in _COLUMNS if flash or column[0] not in _OF_FLASH]
        self._widths = {name: max(abs(width), len(self._same.get(name, ""))) for name, width in self._columns}

    def head(self) -> str:
        """Return the column names and the rule under them."""
        rule = (f" {'-' * (self._widths[name] - 1)}{':' if w > 0 else '-'} " for name, w in self._columns)
        return self._line({name: name for name, _ in self._columns}) + "\n|" + "|".join(rule) + "|"

    def row(self, result: Result) -> str:
        """Return one test's line."""
        rates = result.samples_ts
        speed = f"{mean(rates):.2f} ± {deviation(rates):.2f}"
        memory = "" if result.attention_bytes is None else _binary(result.attention_bytes)
        own = {"fa": str(int(result.test.flash)), "test": result.test.label, "t/s": speed}
        return self._line(self._same | own | {"attention memory": memory})

    def _line(self, cells: Mapping[str, str]) -> str:
        padded = (f" {cells[n]:{'>' if w > 0 else '<'}{self._widths[n]}} " for n, w in self._columns)
        return "|" + "|".join(padded) + "|"


def _binary(nbytes: int) -> str:
    """Return a size as llama-bench writes it."""
    if nbytes < 2**20:
        return f"{nbytes / 2**10:.2f} KiB"
    return f"{nbytes / 2**30:.2f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.2f} MiB"


def _note(watched: bool, text: str) -> None:
    """Say on the terminal's last line what is running."""
    if watched:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
