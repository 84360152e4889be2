"""Two models on one text: what the second predicts worse, how its weights differ, how large and fast both are."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from ..errors import DiskFull, InvalidRequest
from ..kernels.device import DTYPES, available_memory, choose_device
from ..models.difference import WeightError, weight_errors
from ..runtime.divergence import (
    Comparison,
    PredictionFile,
    Predictions,
    Scores,
    join,
    score,
    summarize,
)
from .formats import human_bytes
from .headers import bits_per_weight, open_target, quantization
from .inputs import read_text
from .opening import open_llm
from .options import ComputeFlags
from .perplexity import cut_windows, scored
from .progress import TOKENS, WEIGHTS, ProgressLine
from .terminal import Terminal

if TYPE_CHECKING:
    from ..llm import LLM
    from ..models.checkpoint.base import Checkpoint

Windows = Sequence[Sequence[int]]
Progressed = Callable[[int, int], None] | None

_AUTOMATIC = ComputeFlags()

# Of free memory, what two models may take together, and what a packed weight takes beside its own bytes.
_MEMORY_SHARE, _PACKED = 0.7, 1.25
# Tokens of a speed test, its rounds, and the seconds after which there is no further round.
_PREFILL, _DECODE, _ROUNDS, _LONG = 128, 32, 5, 20.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to compare, on which text, and how: windows of `size` tokens, at most `chunks` of them."""

    base: str
    other: str
    file: Path
    size: int
    chunks: int | None = None
    load: ComputeFlags = _AUTOMATIC
    speed: bool = True
    weights: bool = True


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second, of a prompt and of generation."""

    prefill: float
    decode: float


@dataclass(frozen=True, slots=True)
class Side:
    """One of the models: its file, the bytes and bits per weight of its tensors, its speed if it was measured."""

    name: str
    path: Path
    architecture: str
    quantization: str
    num_weights: int
    nbytes: int
    bits_per_weight: float | None
    speed: Speed | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `llm compare` found; errors: of the weights, None where that was not wanted.

    in_turn: the models were loaded one after the other.
    """

    base: Side
    other: Side
    size: int
    num_windows: int
    scores: Scores
    result: Comparison
    errors: list[WeightError] | None
    in_turn: bool


def compare(base: LLM, other: LLM, windows: Windows) -> Comparison:
    """Run both loaded models over windows of ids; raises InvalidRequest if they predict different vocabularies."""
    return summarize(score_windows(base, other, windows))


def score_windows(base: LLM, other: LLM, windows: Windows, progress: Progressed = None) -> Scores:
    """Score each window's second half with both models; progress is called with windows done and in all."""
    _check_widths(base.config.vocab_size, other.config.vocab_size)
    parts = []
    for number, window in enumerate(windows, 1):
        first = _predict(base, window)
        second = first if other is base else _predict(other, window)
        parts.append(score(first, second))
        if progress is not None:
            progress(number, len(windows))
    return join(parts)


def make_report(wanted: Wanted, terminal: Terminal, *, quiet: bool = False) -> Report:
    """Compare two models by their names or files; raises what is wrong with either, or with the text."""
    with ExitStack() as stack:
        checkpoints = [stack.enter_context(open_target(name))[1] for name in (wanted.base, wanted.other)]
        windows = _windows(wanted, checkpoints)
        errors = _weight_errors(checkpoints, terminal, quiet=quiet) if wanted.weights else None
        base, other = (_side(n, c) for n, c in zip((wanted.base, wanted.other), checkpoints, strict=True))
        together = base.path == other.path or _fit_together(checkpoints, wanted.load)
    run = _Run(wanted, windows, terminal, quiet)
    scores, speeds = run.together(same=base.path == other.path) if together else run.in_turn()
    base, other = replace(base, speed=speeds[0]), replace(other, speed=speeds[1])
    result = summarize(scores)
    return Report(base, other, wanted.size, len(windows), scores, result, errors, in_turn=not together)


@dataclass(frozen=True, slots=True)
class _Run:
    """The windows on their way through both models."""

    wanted: Wanted
    windows: Windows
    terminal: Terminal
    quiet: bool

    def together(self, *, same: bool) -> tuple[Scores, list[Speed | None]]:
        """Load both at once; one that is compared with itself only once."""
        with ExitStack() as stack:
            base = stack.enter_context(self._open(self.wanted.base))
            other = base if same else stack.enter_context(self._open(self.wanted.other))
            line = self._line("comparing")
            try:
                scores = score_windows(base, other, self.windows, self._progress(line))
            finally:
                line.clear()
            speeds = self._speeds([base] if same else [base, other])
        return scores, speeds * 2 if same else speeds

    def in_turn(self) -> tuple[Scores, list[Speed | None]]:
        """Load one after the other, with the first one's predictions in a temporary file meanwhile."""
        rows = len(self.windows) * (self.wanted.size // 2)
        with ExitStack() as stack:
            with self._open(self.wanted.base) as base:
                width = base.config.vocab_size
                _check_room(PredictionFile.nbytes(rows, width))
                kept = PredictionFile(stack.enter_context(tempfile.TemporaryFile()), width)
                self._each(base, "base", kept.append)
                speeds = self._speeds([base])
            kept.rewind()
            parts: list[Scores] = []
            with self._open(self.wanted.other) as other:
                _check_widths(width, other.config.vocab_size)
                self._each(other, "other", lambda found: parts.append(score(kept.next(), found)))
                speeds += self._speeds([other])
        return join(parts), speeds

    def _each(self, llm: LLM, label: str, take: Callable[[Predictions], None]) -> None:
        line = self._line(label)
        try:
            progress = self._progress(line)
            for number, window in enumerate(self.windows, 1):
                take(_predict(llm, window))
                progress(number, len(self.windows))
        finally:
            line.clear()

    def _open(self, name: str) -> LLM:
        wanted = self.wanted
        return open_llm(name, wanted.load, self.terminal, num_ctx=wanted.size, quiet=self.quiet)

    def _line(self, label: str) -> ProgressLine:
        return ProgressLine(self.terminal, label, TOKENS, enabled=not self.quiet)

    def _progress(self, line: ProgressLine) -> Callable[[int, int], None]:
        return lambda done, total: line.update(done * self.wanted.size, total * self.wanted.size)

    def _speeds(self, models: Sequence[LLM]) -> list[Speed | None]:
        if not self.wanted.speed:
            return [None] * len(models)
        line = self._line("speed")
        line.announce()
        try:
            return list(measure_speeds(models, self.wanted.size))
        finally:
            line.clear()


def measure_speeds(models: Sequence[LLM], num_ctx: int) -> list[Speed]:
    """Return each loaded model's speed, of a short prompt and a short reply: medians of rounds that take turns."""
    prefill, decode = min(_PREFILL, num_ctx // 2), min(_DECODE, num_ctx // 2)
    times: list[list[tuple[float, float]]] = [[] for _ in models]
    for llm in models:
        llm.bench(prefill, 1, 0)
    started = time.perf_counter()
    for _ in range(_ROUNDS):
        for llm, found in zip(models, times, strict=True):
            found.append((llm.bench(prefill, 0, 0), llm.bench(0, decode, 0)))
        if time.perf_counter() - started > _LONG:
            break
    return [
        Speed(prefill / median(pair[0] for pair in found), decode / median(pair[1] for pair in found))
        for found in times
    ]


def _predict(llm: LLM, window: Sequence[int]) -> Predictions:
    return Predictions.of(*scored(llm, window))


def _windows(wanted: Wanted, checkpoints: Sequence[Checkpoint]) -> list[list[int]]:
    """Cut the text; raises InvalidRequest for one that is too short, or that the two models read differently."""
    from ..runtime.tokenizer.difference import reading_difference, vocabulary_difference
    from ..runtime.tokenizer.load import load_tokenizer

    # llama-perplexity drops the last line end.
    text = read_text(wanted.file).removesuffix("\n")
    base, other = (load_tokenizer(checkpoint) for checkpoint in checkpoints)
    difference = vocabulary_difference(base, other)
    windows = cut_windows(base, text, wanted.size)[: wanted.chunks]
    if difference is None:
        others = cut_windows(other, text, wanted.size)[: wanted.chunks]
        ours, theirs = ([token for window in cut for token in window] for cut in (windows, others))
        difference = reading_difference(ours, theirs, base)
    if difference is not None:
        raise InvalidRequest(
            f"the models do not read the text alike: {difference}",
            field="other",
            hint="only models with the same tokenizer can be compared",
        )
    return windows


def _check_widths(base: int, other: int) -> None:
    if base != other:
        raise InvalidRequest(
            f"the models predict {base} and {other} tokens",
            field="other",
            hint="only models with the same vocabulary can be compared",
        )


def _fit_together(checkpoints: Sequence[Checkpoint], load: ComputeFlags) -> bool:
    """Tell whether both models fit into memory at once, packed or in the type that they are computed in."""
    device = choose_device(load.device)
    on_cpu = device.type == "cpu"
    total = 0.0
    for checkpoint in checkpoints:
        if load.dtype == "auto":
            total += (
                checkpoint.nbytes * _PACKED
                if on_cpu
                else max(checkpoint.nbytes, 2 * checkpoint.num_parameters)
            )
        else:
            total += checkpoint.num_parameters * DTYPES[load.dtype].itemsize
    return total <= available_memory(device) * _MEMORY_SHARE


def _check_room(nbytes: int) -> None:
    """Raise DiskFull if the predictions of the first model find no room."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise DiskFull(
            f"the models do not fit into memory together, and {folder} has room for {human_bytes(free)} of the "
            f"{human_bytes(nbytes)} that the first one's predictions take",
            hint="--chunks N for fewer windows, or set TMPDIR to a larger disk",
        )


def _weight_errors(
    checkpoints: Sequence[Checkpoint], terminal: Terminal, *, quiet: bool
) -> list[WeightError]:
    base, other = checkpoints
    line = ProgressLine(terminal, "weights", WEIGHTS, enabled=not quiet)
    try:
        return list(weight_errors(base, other, line.update))
    finally:
        line.clear()


def _side(name: str, checkpoint: Checkpoint) -> Side:
    return Side(
        name=name,
        path=checkpoint.path.resolve(),
        architecture=checkpoint.architecture,
        quantization=quantization(checkpoint),
        num_weights=checkpoint.num_parameters,
        nbytes=checkpoint.nbytes,
        bits_per_weight=bits_per_weight(checkpoint),
    )
