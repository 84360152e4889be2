"""`llm verify`: check that every byte of models is as it was when they came."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ..settings import load_settings
from .terminal import Terminal
from .transfers import Transfers

if TYPE_CHECKING:
    from ..registry.origins import Damage
    from ..registry.store import Entry, Store

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[MODEL]...", help="The models; all if none is named.")
]


def command(
    models: Names = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print what is damaged only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read all files of models and compare them with their digests; exit with 1 if one is damaged.

    \b
    Examples:
      llm verify
      llm verify qwen3:8b
    """
    from ..registry.origins import verify
    from ..registry.store import Store

    terminal = Terminal.detect(color=load_settings().color)
    store = Store(load_settings().models_dir)
    entries = chosen(store, models)
    with Transfers(terminal, quiet=quiet or as_json) as transfers:
        damages = list(verify(store, entries, transfers.show))
    if as_json:
        found = {
            "models": [entry.name.short() for entry in entries],
            "damaged": [describe(d) for d in damages],
        }
        print(json.dumps(found, indent=2))
    else:
        for damage in damages:
            print(in_words(damage))
        if not damages and not quiet:
            print(f"{len(entries)} {'model is' if len(entries) == 1 else 'models are'} whole")
    if damages:
        terminal.note("hint: llm repair")
        raise typer.Exit(1)


def chosen(store: Store, names: list[str] | None) -> list[Entry]:
    """Return the named entries, or all; one whose files were changed is no error here."""
    if not names:
        return [entry for entry in store.list() if not entry.bundled]
    return [store.find(name, whole=False) for name in names]


def in_words(damage: Damage) -> str:
    """Say what is wrong with a blob."""
    shown = damage.layer.title or damage.layer.digest
    return f"{', '.join(damage.names)}: {shown}: {damage.reason}"


def describe(damage: Damage) -> dict[str, object]:
    """Return a damage as JSON."""
    layer = damage.layer
    return {"models": damage.names, "digest": layer.digest, "file": layer.title, "reason": damage.reason}
