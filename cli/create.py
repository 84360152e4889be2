"""`llm create`: make a named model from a Modelfile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest, ModelfileError, TemplateError
from ..settings import load_settings
from .formats import human_number, printable
from .headers import context_length, quantization
from .inputs import read_all
from .progress import BYTES, ProgressLine
from .terminal import Terminal

if TYPE_CHECKING:
    from ..registry.create import Details
    from ..registry.manifest import Manifest
    from ..registry.modelfile import Modelfile

# Files that turn images or sound into embeddings: kept beside a model, run by no architecture of ours.
_PROJECTORS = ("clip", "mmproj")


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The new model's name.")],
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="The Modelfile; - reads standard input.")
    ] = "Modelfile",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Create a model from a Modelfile; see Modelfile.example for one.

    The weights are linked, not copied, where the file system can.

    \b
    Examples:
      llm create mymodel
      llm create mymodel -f Modelfile.example
      echo "FROM ./qwen3-8b-q4_k_m.gguf" | llm create qwen3:8b -f -
    """
    from ..registry.create import create
    from ..registry.modelfile import Modelfile
    from ..registry.name import ModelName
    from ..registry.store import Store

    name = ModelName.parse(model)
    steps = _Steps(quiet=quiet)
    source, base = _read(file)
    modelfile = Modelfile.parse(source)
    _check(modelfile)
    for warning in modelfile.warnings:
        steps.say(f"warning: {warning}")
    steps.say("gathering model components")
    store = Store(load_settings().models_dir)
    known = {layer.digest for entry in store.list() for layer in entry.manifest.layers}
    try:
        manifest = create(store, name, modelfile, base=base, inspect=inspect, progress=steps.copying)
    finally:
        steps.clear()
    for layer in manifest.layers:
        steps.say(f"{'using existing' if layer.digest in known else 'creating new'} layer {layer.digest}")
    steps.say("writing manifest")
    steps.say("success")
    if as_json:
        _print_json(name.short(), manifest)


def inspect(path: Path) -> Details:
    """Describe a model file; raise a CheckpointError unless it opens and its architecture is supported."""
    from ..models.checkpoint.open import open_checkpoint
    from ..models.load import find_architecture
    from ..registry.create import Details

    with open_checkpoint(path) as checkpoint:
        if checkpoint.architecture not in _PROJECTORS:
            find_architecture(checkpoint)
        count = checkpoint.num_parameters
        return Details(
            format=checkpoint.format,
            family=checkpoint.architecture,
            parameter_size=human_number(count) if count else "",
            quantization=quantization(checkpoint),
            context_length=context_length(checkpoint),
        )


def _check(modelfile: Modelfile) -> None:
    """Raise ModelfileError for a template or an option with which the model could not be run."""
    from ..chat.options import OPTIONS, from_user, sampling_params
    from ..chat.template import Template
    from ..registry.modelfile import is_go_template
    from ..registry.parameters import parse_parameter

    for command in modelfile.commands:
        try:
            if command.name == "template" and not is_go_template(command.value):
                Template(command.value, path_name="TEMPLATE")
            elif command.name == "parameter" and command.args[0] in OPTIONS:
                option = {command.args[0]: parse_parameter(*command.args)}
                sampling_params(from_user(option, "modelfile"))
        except (InvalidRequest, TemplateError) as error:
            raise command.error(error.message) from error


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
        self._file: str | None = None
        self._line: ProgressLine | None = None

    def say(self, text: str) -> None:
        """Print a line."""
        self.clear()
        if not self._quiet:
            self._terminal.note(text)

    def copying(self, file: str, done: int, total: int) -> None:
        """Show how much of a file is in the store."""
        if file != self._file or self._line is None:
            self.clear()
            label = f"copying {printable(file)}"
            self._line = ProgressLine(self._terminal, label, BYTES, enabled=not self._quiet)
            self._file = file
        self._line.update(done, total)

    def clear(self) -> None:
        """Erase the bar."""
        if self._line is not None:
            self._line.clear()
            self._line = None
