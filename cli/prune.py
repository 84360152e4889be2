"""`llm prune`: delete what no model needs."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from ..settings import load_settings


def command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Delete nothing, say what would go.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Delete downloads that were given up and files that no model uses any more; models stay.

    \b
    Examples:
      llm prune --dry-run
      llm prune
    """
    from ..registry.store import Store
    from ..registry.usage import drop_unfinished, unfinished, unused_blobs
    from .formats import human_bytes

    store = Store(load_settings().models_dir)
    unused = unused_blobs(store)
    coming = unfinished(store)
    idle = sum(item.nbytes for item in coming if not item.active)
    if not dry_run:
        gone = store.prune(grace=0.0)
        idle = drop_unfinished(store)  # with what is remembered of blobs that are gone
        coming = unfinished(store)
        unused = {digest: unused.get(digest, 0) for digest in gone}
    total = idle + sum(unused.values())
    if as_json:
        out = {"dry_run": dry_run, "downloads": idle, "blobs": unused, "bytes": total}
        print(json.dumps(out, indent=2))
    elif not quiet:
        verb = "would free" if dry_run else "freed"
        if coming and not dry_run:
            print(
                f"{len(coming)} downloads are under way, or belong to a pull that is; they stay",
                file=sys.stderr,
            )
        print(f"{verb} {human_bytes(total)}: {human_bytes(idle)} of downloads, {len(unused)} unused files")
