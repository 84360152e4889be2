"""`llm rm`: take models' names away, and the files that no other name uses."""

from __future__ import annotations

from typing import Annotated

import typer

from ..settings import load_settings


def command(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="The names to remove.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Remove models.

    Only the store's own files go; a .gguf that a model was created from stays where it is.

    \b
    Examples:
      llm rm mymodel
      llm rm qwen3:8b qwen3:14b
    """
    from ..registry.store import Store

    store = Store(load_settings().models_dir)
    for model in models:
        store.check_removable(model)  # a wrong name must not leave half of the list removed
    for model in models:
        store.remove(model)
        if not quiet:
            print(f"deleted '{model}'")
