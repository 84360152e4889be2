"""`llm perplexity`: how well a model predicts a text, by llama-perplexity's protocol."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest
from ..settings import load_settings
from .inputs import read_text
from .opening import open_llm
from .options import Model, ModelFlags, parse_count, with_groups
from .terminal import Terminal
from .tokenize import open_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from ..llm import LLM
    from ..runtime.tokenizer.tokenizer import Tokenizer

# Rows of logits that are turned into probabilities at once.
_ROWS = 64
_WINDOW = 512
_SMALLEST = 4  # tokens in a window, so that something is scored
_AUTOMATIC = ModelFlags()


@with_groups
def command(
    model: Model,
    file: Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The text (UTF-8).")],
    num_ctx: Annotated[
        int | None,
        typer.Option(
            "--num-ctx", "-c", metavar="N", parser=parse_count, help="Tokens per window. [default: 512]"
        ),
    ] = None,
    load: ModelFlags = _AUTOMATIC,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result alone.")] = False,
) -> None:
    """Measure how well a model predicts a text; lower is better.

    The text is cut into windows, and the second half of each is scored, exactly as llama-perplexity does.
    Results compare only between models with the same tokenizer, for the same text and windows.

    \b
    Examples:
      llm perplexity pocket --file problems.txt --num-ctx 256
      llm perplexity qwen3 --file wiki.test.raw
      llm perplexity ./qwen3-q4_k_m.gguf --file wiki.test.raw --json
    """
    # llama-perplexity drops the last line end.
    text = read_text(file).removesuffix("\n")
    size = _WINDOW if num_ctx is None else num_ctx
    if size < _SMALLEST:
        raise InvalidRequest(f"windows need at least {_SMALLEST} tokens, not {size}", field="num_ctx")
    # The text is cut before the model is loaded, which can take long.
    windows = cut_windows(open_tokenizer(model), text, size)
    score = Score()
    terminal = Terminal.detect(color=load_settings().color)
    with open_llm(model, load, terminal, num_ctx=size, quiet=quiet) as llm:
        out = sys.stderr if as_json else sys.stdout
        shown = not quiet and (not as_json or sys.stderr.isatty())
        for number, window in enumerate(windows, 1):
            score = score + score_window(llm, window)
            if shown:
                out.write(f"[{number}]{score.ppl:.4f},")
                out.flush()
        if shown:
            out.write("\n")
    if as_json:
        import json

        print(json.dumps({"ppl": _finite(score.ppl), "error": _finite(score.error), "tokens": score.count}))
    else:
        print(f"PPL = {score.ppl:.4f} ± {score.error:.5f}")


def cut_windows(tokenizer: Tokenizer, text: str, size: int) -> list[list[int]]:
    """Return the text's whole windows, each beginning with BOS if the vocabulary wants one.

    BOS stands before the text and takes the first place of every later window.
    """
    bos = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    ids = bos + tokenizer.encode(text, special=False)
    if len(ids) < 2 * size:
        raise InvalidRequest(
            f"the text has {len(ids)} tokens, and windows of {size} need at least {2 * size}",
            field="file",
            hint="take a longer text"
            + (f", or smaller windows: --num-ctx {len(ids) // 2}" if len(ids) >= 8 else ""),
        )
    starts = range(0, len(ids) - size + 1, size)
    return [bos + ids[start + len(bos) : start + size] for start in starts]


@dataclass(frozen=True, slots=True)
class Score:
    """Sums over scored tokens: how many, of -log p, and of its squares."""

    count: int = 0
    nll: float = 0.0
    nll2: float = 0.0

    def __add__(self, other: Score) -> Score:
        return Score(self.count + other.count, self.nll + other.nll, self.nll2 + other.nll2)

    @property
    def ppl(self) -> float:
        """The perplexity: e to the mean of -log p."""
        mean = self.nll / self.count
        return math.inf if mean > 700 else math.exp(mean)

    @property
    def error(self) -> float:
        """The perplexity's standard error, from the spread of -log p."""
        mean = self.nll / self.count
        variance = self.nll2 / self.count - mean * mean
        if self.count < 2 or not variance > 0:
            return 0.0 if math.isfinite(mean) else math.nan
        return math.sqrt(variance / (self.count - 1)) * self.ppl


def score_window(llm: LLM, window: Sequence[int]) -> Score:
    """Score the tokens of a window's second half, each given everything before it in the window."""
    losses = list(_losses(*scored(llm, window)))
    return Score(len(losses), math.fsum(losses), math.fsum(loss * loss for loss in losses))


def scored(llm: LLM, window: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
    """Return the logits [n, vocab] before each scored token of a window, and those tokens [n]."""
    first = len(window) // 2
    return llm.logits(window, first)[:-1], window[first + 1 :]


def _losses(logits: Tensor, targets: Sequence[int]) -> Iterator[float]:
    """Yield -log p of each target under its row."""
    for start in range(0, len(targets), _ROWS):
        rows = logits[start : start + _ROWS].float()
        chosen = rows[list(range(len(rows))), list(targets[start : start + _ROWS])]
        yield from (rows.logsumexp(-1) - chosen).tolist()


def _finite(value: float) -> float | None:
    """Return a number that JSON can hold."""
    return value if math.isfinite(value) else None
