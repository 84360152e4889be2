"""Runs a model on a text with some of its matrices rounded, to see which ones it can bear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import InvalidRequest
from ..models.load import model_config
from ..runtime.sensitivity import Sensitivity, measure_importance, most_windows, spread_windows
from ..runtime.tokenizer.load import load_tokenizer
from .inputs import read_text
from .perplexity import cut_windows
from .progress import TOKENS, ProgressLine
from .terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from ..models.checkpoint.base import Checkpoint
    from ..quant.dtype import DType
    from ..quant.imatrix import ImportanceMatrix
    from ..runtime.load_options import LoadOptions
    from .quantize_source import Opened

_LONGEST, _SHORTEST = 512, 16
# Windows that importance is measured on, and divergence: of models up to so many weights, and of larger ones. A few
# thousand tokens tell groups apart; all of them are run once for each group.
_SMALL = 10**8
_WINDOWS, _TRIED = (100, 32), (16, 4)


@dataclass(frozen=True, slots=True)
class Tried:
    """A group of matrices that was rounded on its own, and the divergence that it cost."""

    names: tuple[str, ...]
    kind: str
    kl: float


def window_size(checkpoint: Checkpoint, text: Path) -> int:
    """Return how many tokens the windows of a text may have; raises InvalidRequest for a text that is too short."""
    tokenizer = load_tokenizer(checkpoint)
    count = len(tokenizer.encode(read_text(text).removesuffix("\n"), special=False))
    size = min(_LONGEST, model_config(checkpoint).max_positions, count // 2)
    if size < _SHORTEST:
        raise InvalidRequest(
            f"{text}: {count} tokens are too few to measure on", field="file", hint="take a longer text"
        )
    return size


class Trials:
    """The windows of a text, run with one group of matrices after the other in fewer bits."""

    def __init__(
        self, opened: Opened, text: Path, load: LoadOptions, terminal: Terminal, *, quiet: bool
    ) -> None:
        self.checkpoint: Checkpoint = opened.as_gguf()
        self.text = text
        size = window_size(opened.checkpoint, text)
        content = read_text(text).removesuffix("\n")
        self._windows = cut_windows(load_tokenizer(opened.checkpoint), content, size)
        self._load = replace(load, num_ctx=size)
        self._terminal, self._quiet = terminal, quiet
        self._is_large = opened.source.num_weights > _SMALL
        most = most_windows(size, model_config(self.checkpoint).vocab_size)
        self._few = spread_windows(self._windows, min(_TRIED[self._is_large], most))
        self._line: ProgressLine | None = None
        self._done = self._total = 0
        self._sensitivity: Sensitivity | None = None

    @property
    def num_windows(self) -> int:
        """How many windows divergence is measured on."""
        return len(self._few)

    def importance(self) -> ImportanceMatrix:
        """Measure what the matrices are multiplied by."""
        windows = spread_windows(self._windows, _WINDOWS[self._is_large])
        with self._counting("importance", windows, 1):
            return measure_importance(self.checkpoint, self._load, windows, str(self.text), self._counted)

    def try_groups(
        self,
        names: Sequence[Sequence[str]],
        kinds: Mapping[str, DType],
        importance: ImportanceMatrix | None,
    ) -> list[Tried]:
        """Round each group on its own and measure the divergence."""
        tried = []
        with self._counting("sensitivity", self._few, len(names) + 1):
            self._sensitivity = Sensitivity(self.checkpoint, self._load, self._few, self._counted)
            for group in names:
                chosen = {name: kinds[name] for name in group}
                kl = self._sensitivity.divergence(chosen, importance)
                tried.append(Tried(tuple(group), "/".join({kind.name for kind in chosen.values()}), kl))
        return tried

    def divergence(self, kinds: Mapping[str, DType], importance: ImportanceMatrix | None) -> float:
        """Return the divergence with all these matrices rounded; groups were tried before."""
        assert self._sensitivity is not None, "there is nothing to compare with yet"
        with self._counting("divergence", self._few, 1):
            return self._sensitivity.divergence(kinds, importance)

    @contextmanager
    def _counting(self, label: str, windows: Sequence[Sequence[int]], runs: int) -> Iterator[None]:
        """Show how many tokens of these runs are done."""
        self._line = ProgressLine(self._terminal, label, TOKENS, enabled=not self._quiet)
        self._done, self._total = 0, runs * sum(len(window) for window in windows)
        try:
            yield
        finally:
            self._line.clear()
            self._line = None

    def _counted(self, count: int) -> None:
        self._done += count
        if self._line is not None:
            self._line.update(self._done, self._total)
