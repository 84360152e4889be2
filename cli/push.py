"""`llm push`: send a model to a registry."""

from __future__ import annotations

from typing import Annotated

import typer

from ..settings import load_settings
from .terminal import Terminal
from .transfers import Transfers


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name.")],
    target: Annotated[
        str | None, typer.Argument(metavar="[TARGET]", help="Registry and name there, if MODEL does not say.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow a registry without encryption.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each step as a JSON object on a line.")
    ] = False,
) -> None:
    """Send a model to an OCI registry; what the registry has already is not sent again.

    \b
    Examples:
      llm push registry.example.com/me/mymodel:v1
      llm push mymodel ghcr.io/me/mymodel
      llm push mymodel localhost:5000/me/mymodel
    """
    from ..registry.push import push

    terminal = Terminal.detect(color=load_settings().color)
    with Transfers(terminal, quiet=quiet, as_json=as_json) as transfers:
        push(model, target, insecure=insecure, report=transfers.show)
