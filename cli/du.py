"""`llm du`: what takes room on the disk."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..settings import load_settings


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the disk space of models, of downloads that have not ended, and of what no model needs.

    OWN is what `llm rm` would free: files that several models share are counted once in the total.

    \b
    Examples:
      llm du
      llm du --json
    """
    from ..registry.disk import free_bytes
    from ..registry.store import Store
    from ..registry.usage import unfinished, unused_blobs, usage
    from .formats import columns, human_bytes

    store = Store(load_settings().models_dir)
    models, downloads, unused = usage(store), unfinished(store), unused_blobs(store)
    shared = {x.digest: x.size for m in models for x in (m.entry.manifest.config, *m.entry.manifest.layers)}
    parts = {
        "models": sum(shared.values()),
        "unfinished": sum(item.nbytes for item in downloads),
        "unused": sum(unused.values()),
    }
    free = free_bytes(store.root) if store.root.is_dir() else None
    if as_json:
        rows = [{"name": m.entry.name.short(), "size": m.size, "own": m.own} for m in models]
        print(json.dumps({"store": str(store.root), "models": rows, "bytes": parts, "free": free}, indent=2))
        return
    table = [["NAME", "SIZE", "OWN"]]
    table += [[m.entry.name.short(), human_bytes(m.size), human_bytes(m.own)] for m in models]
    lines = [*columns(table), ""] if models else []
    totals = [["models", human_bytes(parts["models"])]]
    active = sum(item.active for item in downloads)
    note = f"{len(downloads)} downloads, {active} under way" if downloads else ""
    totals.append(["unfinished", human_bytes(parts["unfinished"]), note])
    totals.append(["unused", human_bytes(parts["unused"]), "llm prune deletes them" if unused else ""])
    if free is not None:
        totals.append(["free", human_bytes(free), str(store.root)])
    for line in [*lines, *columns(totals)]:
        print(line)
