"""`llm repair`: fetch again what is damaged of models."""

from __future__ import annotations

from typing import Annotated

import typer

from ..settings import load_remotes, load_settings
from .terminal import Terminal
from .transfers import Transfers
from .verify import Names, chosen, in_words


def command(
    models: Names = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print what stays damaged only.")] = False,
) -> None:
    """Check models as `llm verify` does, and fetch what is damaged from where it came; the rest stays.

    \b
    Examples:
      llm repair
      llm repair qwen3:8b
    """
    from ..registry.origins import repair, verify
    from ..registry.store import Store
    from ..registry.web import Web

    terminal = Terminal.detect(color=load_settings().color)
    store = Store(load_settings().models_dir)
    entries = chosen(store, models)
    with Transfers(terminal, quiet=quiet) as transfers, Web() as web:
        damages = list(verify(store, entries, transfers.show))
        left = repair(store, entries, damages, load_remotes(), web, transfers.show) if damages else []
    for damage in left:
        print(f"{in_words(damage)}; no whole copy was found")
    if not quiet:
        print(
            f"{len(damages) - len(left)} of {len(damages)} damaged files repaired"
            if damages
            else "all is whole"
        )
    if left:
        raise typer.Exit(1)
