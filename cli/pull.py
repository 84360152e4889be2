"""`llm pull`: get models from Hugging Face, from registries, from an address or a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Cancelled, InvalidRequest, MullError
from ..settings import load_settings
from .terminal import Terminal
from .transfers import Transfers

if TYPE_CHECKING:
    from ..registry.pull import PullOptions


def command(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="What to get; see the examples.")],
    rename: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="The name that the model gets here.")
    ] = None,
    connections: Annotated[
        int, typer.Option("--connections", min=1, max=64, help="How many parts of a file to fetch at once.")
    ] = 8,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow a registry without encryption.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each step as a JSON object on a line.")
    ] = False,
) -> None:
    """Get models, verified byte for byte; what was interrupted goes on where it stopped.

    user/repo is a repository of Hugging Face; without a quantization the best that fits this machine is taken.
    A name without a slash is a model of Ollama's registry.

    \b
    Examples:
      llm pull Qwen/Qwen3-8B-GGUF
      llm pull hf.co/Qwen/Qwen3-8B-GGUF:Q5_K_M
      llm pull Qwen/Qwen3-0.6B ms://Qwen/Qwen3-8B-GGUF
      llm pull llama3.2 registry.example.com/user/model:tag
      llm pull https://example.com/models/tiny-q8_0.gguf --as tiny
    """
    from ..registry.pull import PullOptions
    from .create import inspect

    if rename is not None and len(models) > 1:
        raise InvalidRequest("--as names one model, and there are several", hint="pull them one by one")
    terminal = Terminal.detect(color=load_settings().color)
    options = PullOptions(rename=rename, insecure=insecure, connections=connections, inspect=inspect)
    failed = 0
    with Transfers(terminal, quiet=quiet, as_json=as_json) as transfers:
        for model in models:
            try:
                _pull(model, options, transfers, terminal if len(models) > 1 and not quiet else None)
            except Cancelled:
                raise
            except MullError as error:
                transfers.close()
                if as_json:
                    print(json.dumps({"error": error.message, "hint": error.hint}), flush=True)
                if len(models) == 1:
                    raise
                # One that fails must not keep the others from coming.
                terminal.complain(f"{model}: {error.message}", error.hint)
                failed += 1
            except (KeyboardInterrupt, SystemExit):
                transfers.close()
                terminal.note("stopped; what has come is kept: the same command goes on with it")
                raise
    if failed:
        raise typer.Exit(1)


def _pull(model: str, options: PullOptions, transfers: Transfers, terminal: Terminal | None) -> None:
    """Pull one of the models, saying which where there are several."""
    from ..registry.pull import pull
    from ..registry.store import Store

    if terminal is not None:
        terminal.note(f"{model}:")
    name = pull(model, options, report=transfers.show)
    try:
        known = Store(load_settings().models_dir).check_removable(model) == name
    except MullError:
        known = False
    if not known and options.rename is None:
        transfers.tell(f"its name here is {name.short()}")
