"""`llm outdated`: which models are newer where they were pulled from."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..settings import load_remotes, load_settings
from .verify import Names, chosen

_WORDS = {
    "current": "up to date",
    "newer": "newer there",
    "gone": "gone there",
    "unknown": "not known",
    "local": "made here",
}


def command(
    models: Names = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the outdated names alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Ask where models were pulled from whether there are newer ones; nothing is downloaded.

    \b
    Examples:
      llm outdated
      llm outdated -q | xargs llm pull
    """
    from ..registry.origins import news
    from ..registry.store import Store
    from ..registry.web import Patience, Web
    from .formats import columns, printable

    store = Store(load_settings().models_dir)
    with Web(Patience(tries=2)) as web:
        found = list(news(store, chosen(store, models), load_remotes(), web))
    if as_json:
        out = [
            {
                "name": n.entry.name.short(),
                "status": n.status,
                "detail": n.detail,
                "source": n.entry.manifest.source,
            }
            for n in found
        ]
        print(json.dumps(out, indent=2, ensure_ascii=False))
    elif quiet:
        for item in found:
            if item.status == "newer":
                print(item.entry.name.short())
    elif found:
        rows = [["NAME", "STATUS", "DETAIL"]]
        rows += [[n.entry.name.short(), _WORDS[n.status], printable(n.detail)] for n in found]
        for line in columns(rows):
            print(line)
