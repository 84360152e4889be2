"""`llm create`: make a named model from a Modelfile."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest, ModelfileError
from ..server.facts import check_modelfile
from ..server.facts import inspect as inspect
from ..settings import load_settings
from .formats import printable
from .inputs import read_all
from .progress import BYTES, ProgressLine
from .terminal import Terminal

if TYPE_CHECKING:
    from ..registry.manifest import Manifest
    from ..registry.modelfile import Modelfile
    from ..registry.name import ModelName
    from ..registry.store import Store
    from ..server.quantizing import Quantizing


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The new model's name.")],
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="The Modelfile; - reads standard input.")
    ] = "Modelfile",
    quantize: Annotated[
        str | None,
        typer.Option(
            "--quantize", "-q", metavar="TYPE", help="Write the weights in this type, such as Q4_K_M."
        ),
    ] = None,
    imatrix: Annotated[
        Path | None,
        typer.Option("--imatrix", metavar="FILE", help="How much each column matters, from llm imatrix."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing.")] = False,
) -> None:
    """Create a model from a Modelfile; see Modelfile.example for one.

    The weights are linked, not copied, where the file system can; with --quantize they are written anew, in a type of
    llm quantize --list.

    \b
    Examples:
      llm create mymodel
      llm create mymodel -f Modelfile.example
      echo "FROM ./qwen3-8b-q4_k_m.gguf" | llm create qwen3:8b -f -
      echo "FROM ./Qwen3-8B" | llm create qwen3:q4 -f - -q Q4_K_M
    """
    from ..registry.modelfile import Modelfile
    from ..registry.name import ModelName
    from ..registry.store import Store
    from ..server.quantizing import Quantizing

    name = ModelName.parse(model)
    if imatrix is not None and quantize is None:
        raise InvalidRequest("--imatrix is for --quantize, which is absent", field="imatrix")
    quantizing = None if quantize is None else Quantizing(quantize, imatrix)
    if quantizing is not None:
        quantizing.check()
    steps = _Steps(quiet=quiet)
    source, base = _read(file)
    modelfile = Modelfile.parse(source)
    check_modelfile(modelfile)
    for warning in modelfile.warnings:
        steps.say(f"warning: {warning}")
    steps.say("gathering model components")
    store = Store(load_settings().models_dir)
    known = {layer.digest for entry in store.list() for layer in entry.manifest.layers}
    try:
        manifest = _make(store, name, modelfile, base, quantizing, steps)
    finally:
        steps.clear()
    for layer in manifest.layers:
        steps.say(f"{'using existing' if layer.digest in known else 'creating new'} layer {layer.digest}")
    steps.say("writing manifest")
    steps.say("success")
    if as_json:
        _print_json(name.short(), manifest)


def _make(
    store: Store,
    name: ModelName,
    modelfile: Modelfile,
    base: Path,
    quantizing: Quantizing | None,
    steps: _Steps,
) -> Manifest:
    """Store the model, with its weights as they are or in another type."""
    from ..registry.create import Making, find_weights, make

    making = Making(base, inspect, steps.copying)
    if quantizing is None:
        return make(store, name, modelfile, making)
    from ..registry.incoming import incoming

    source = find_weights(store, modelfile, making)
    inspect(source)  # what cannot be run is refused before it is written
    with incoming(store.root) as folder:
        written = quantizing.write(source, folder, steps.working)
        return make(store, name, modelfile, replace(making, weights=written))


def _read(file: str) -> tuple[bytes, Path]:
    """Return a Modelfile's bytes and the folder that its relative paths start from."""
    if file == "-":
        return read_all(sys.stdin.buffer, "the Modelfile"), Path.cwd()
    path = Path(file)
    try:
        with path.open("rb") as stream:
            return read_all(stream, "the Modelfile"), path.absolute().parent
    except OSError as error:
        hint = "name one with -f, or write FROM and a model's name or file into ./Modelfile"
        reason = (error.strerror or str(error)).lower()
        raise ModelfileError(f"cannot read {file}: {reason}", hint=hint) from None


def _print_json(name: str, manifest: Manifest) -> None:
    import json

    from ..registry.manifest import digest_of

    digest = digest_of(manifest.to_bytes())
    layers = [{"media_type": x.media_type, "digest": x.digest, "size": x.size} for x in manifest.layers]
    print(json.dumps({"name": name, "digest": digest, "size": manifest.size, "layers": layers}))


class _Steps:
    """What happens, line by line on stderr, with a bar for each large file where somebody watches."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = Terminal.detect(color=False)
        self._label: str | None = None
        self._line: ProgressLine | None = None

    def say(self, text: str) -> None:
        """Print a line."""
        self.clear()
        if not self._quiet:
            self._terminal.note(text)

    def copying(self, file: str, done: int, total: int) -> None:
        """Show how much of a file is in the store."""
        self.working(f"copying {printable(file)}", done, total)

    def working(self, label: str, done: int, total: int) -> None:
        """Show how much of some work is done."""
        if label != self._label or self._line is None:
            self.clear()
            self._line = ProgressLine(self._terminal, label, BYTES, enabled=not self._quiet)
            self._label = label
        self._line.update(done, total)

    def clear(self) -> None:
        """Erase the bar."""
        if self._line is not None:
            self._line.clear()
            self._line = None
