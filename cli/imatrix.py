"""`llm imatrix`: measure on a text how strongly a model uses each input of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest
from ..settings import load_settings
from .headers import open_target
from .inputs import read_text
from .options import DeviceFlags, parse_count, with_groups
from .perplexity import cut_windows
from .progress import BYTES, TOKENS, ProgressLine
from .signals import ending_at_once
from .terminal import Terminal
from .tokenize import open_tokenizer

if TYPE_CHECKING:
    from ..quant.imatrix import ImportanceMatrix

_WINDOW, _SMALLEST = 512, 4
_OUTPUT = Path("imatrix.gguf")


@dataclass(frozen=True, slots=True)
class MeasureFlags:
    """What is measured, and where it goes."""

    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="The text (UTF-8) to measure on.")
    ] = None
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the matrix goes.")] = (
        _OUTPUT
    )
    chunks: Annotated[
        int | None, typer.Option("--chunks", min=1, metavar="N", help="Windows to run. [default: all]")
    ] = None
    num_ctx: Annotated[
        int | None,
        typer.Option(
            "--num-ctx", "-c", metavar="N", parser=parse_count, help="Tokens per window. [default: 512]"
        ),
    ] = None
    in_file: Annotated[
        list[Path] | None,
        typer.Option("--in-file", metavar="FILE", help="Add a matrix measured before; may be given again."),
    ] = None
    process_output: Annotated[
        bool, typer.Option("--process-output", help="Measure the matrix that makes the logits too.")
    ] = False
    save_every: Annotated[
        int | None,
        typer.Option("--save-every", min=1, metavar="N", help="Write what there is after every N windows."),
    ] = None

    @property
    def size(self) -> int:
        """Tokens in a window."""
        return _WINDOW if self.num_ctx is None else self.num_ctx

    def check(self, model: str | None) -> None:
        """Raise InvalidRequest for what leaves nothing to do or nowhere to write, before anything is read."""
        usual = "llm imatrix MODEL --file FILE"
        if model is None and (self.file is not None or not self.in_file):
            raise InvalidRequest("no model to run", field="model", hint=usual)
        if model is not None and self.file is None:
            raise InvalidRequest("no text to measure on", field="file", hint=usual)
        if self.size < _SMALLEST:
            message = f"windows need at least {_SMALLEST} tokens, not {self.size}"
            raise InvalidRequest(message, field="num_ctx")
        if self.output.is_dir():
            message, hint = f"{self.output} is a folder", f"--output {self.output / _OUTPUT}"
            raise InvalidRequest(message, field="output", hint=hint)
        if not self.output.parent.is_dir():
            raise InvalidRequest(f"{self.output.parent}: no such folder", field="output")


_DEFAULTS, _AUTOMATIC = MeasureFlags(), DeviceFlags()


@with_groups
def command(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A model's name, a .gguf or a folder.")
    ] = None,
    flags: MeasureFlags = _DEFAULTS,
    load: DeviceFlags = _AUTOMATIC,
    show: Annotated[
        Path | None, typer.Option("--show", metavar="FILE", help="Print a matrix's statistics, and stop.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --show: print a JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notes.")] = False,
) -> None:
    """Measure how strongly a model uses each input of its weights, for llm quantize --imatrix.

    The text is cut into windows as llama-imatrix does, whose files and these are the same. A hundred windows of text
    like that which the model will meet are enough. Without MODEL, the matrices of --in-file are added up.

    \b
    Examples:
      llm imatrix qwen3 --file calibration.txt
      llm imatrix ./qwen3-f16.gguf -f code.txt --chunks 100 -o code.gguf
      llm imatrix --in-file code.gguf --in-file prose.gguf -o both.gguf
      llm imatrix --show imatrix.gguf
    """
    if show is not None:
        from .imatrix_table import show_statistics

        show_statistics(show, as_json=as_json)
        return
    if as_json:
        raise InvalidRequest("--json goes with --show", field="json", hint="llm imatrix --show FILE --json")
    flags.check(model)
    load.check()
    terminal = Terminal.detect(color=load_settings().color)
    with ending_at_once():
        from ..quant.imatrix import ImportanceMatrix, merge
    known = [ImportanceMatrix.read(path, flags.size) for path in flags.in_file or ()]
    if model is None:
        total = merge(known, flags.size)
        total.write(flags.output)
    else:
        total = _measure(model, flags, load, known, terminal, quiet=quiet)
    if not quiet:
        _tell(total, flags.output, terminal)


def _measure(
    model: str,
    flags: MeasureFlags,
    load: DeviceFlags,
    known: Sequence[ImportanceMatrix],
    terminal: Terminal,
    *,
    quiet: bool,
) -> ImportanceMatrix:
    """Run the text, add what was known before, and write the sum; raises what is wrong with text or model."""
    assert flags.file is not None
    # llama-imatrix drops the last line end.
    text, size = read_text(flags.file).removesuffix("\n"), flags.size
    windows = cut_windows(open_tokenizer(model), text, size)[: flags.chunks]
    loading = ProgressLine(terminal, "loading", BYTES, enabled=not quiet)
    loading.announce()
    with ending_at_once(loading.clear):
        from ..quant.imatrix import merge
        from ..runtime.activations import Activations, observe
        from ..runtime.backend import Backend
        from ..runtime.load_options import LoadOptions

    running = ProgressLine(terminal, "measuring", TOKENS, enabled=not quiet)
    options = LoadOptions(
        dtype=load.dtype,
        device=load.device,
        num_ctx=size,
        threads=load.threads or None,
        cpu=load_settings().cpu,
    )
    with open_target(model) as (_, checkpoint):
        done = 0

        def loaded(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            loading.update(done, checkpoint.nbytes)

        backend = Backend(checkpoint, options)
        try:
            network = backend.load(loaded)
        finally:
            loading.clear()
        if known:
            merge(known, size).check({name: (len(m), *m[0].shape) for name, m in network.matrices.items()})
        activations = Activations(network, with_output=flags.process_output)
        try:
            for number, count in enumerate(observe(backend, network, activations, windows), 1):
                running.update(number * count, len(windows) * count)
                if number == len(windows) or (flags.save_every and number % flags.save_every == 0):
                    total = merge([*known, activations.matrix(str(flags.file), size)], size)
                    total.write(flags.output)
        finally:
            running.clear()
    return total


def _tell(total: ImportanceMatrix, output: Path, terminal: Terminal) -> None:
    """Say what was written, and of which experts it knows nothing."""
    partial = sum(not entry.counts.all() for entry in total.entries.values())
    if partial:
        terminal.note(
            f"in {partial} of {len(total.entries)} matrices some experts saw no token; a longer text helps"
        )
    terminal.note(
        f"{output}: {len(total.entries)} matrices over {total.chunk_count} windows of {total.chunk_size}"
    )
