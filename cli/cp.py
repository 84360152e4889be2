"""`llm cp`: give a model a second name."""

from __future__ import annotations

from typing import Annotated

import typer

from ..settings import load_settings


def command(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A model's name.")],
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="The new name.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Copy a model: both names share the same files on disk.

    \b
    Examples:
      llm cp qwen3 backup/qwen3
      llm cp pocket mypocket
    """
    from ..registry.store import Store

    Store(load_settings().models_dir).copy(source, destination)
    if not quiet:
        print(f"copied '{source}' to '{destination}'")
