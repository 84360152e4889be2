"""`llm list`: the models on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..settings import load_settings

if TYPE_CHECKING:
    from ..errors import StoreError
    from ..registry.store import Entry, Store


def command(
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="Only names that begin with this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the names alone.")] = False,
) -> None:
    """List the models on this machine, the last modified first.

    \b
    Examples:
      llm list
      llm list qwen
      llm list --json
      llm list -q | xargs -n 1 llm show
    """
    from ..registry.store import Store

    store = Store(load_settings().models_dir)
    entries = [e for e in store.list(_warn) if e.name.short().lower().startswith(prefix.lower())]
    if as_json:
        import json

        print(json.dumps([_describe(store, entry) for entry in entries], indent=2, ensure_ascii=False))
    elif quiet:
        for entry in entries:
            print(entry.name.short())
    else:
        _print_table(entries)


def _print_table(entries: list[Entry]) -> None:
    from .formats import columns, human_bytes, human_time

    rows = [["NAME", "ID", "SIZE", "MODIFIED"]]
    for entry in entries:
        size, modified = human_bytes(entry.size), human_time(entry.modified)
        rows.append([entry.name.short(), _hex(entry)[:12], size, modified])
    for line in columns(rows):
        print(line)


def _describe(store: Store, entry: Entry) -> dict[str, object]:
    from ..errors import StoreError
    from ..registry.manifest import ModelConfig

    try:
        config = ModelConfig.from_bytes(store.read_blob(entry.manifest.config.digest))
    except StoreError:
        config = ModelConfig()
    return {
        "name": entry.name.short(),
        "id": _hex(entry)[:12],
        "digest": entry.digest,
        "size": entry.size,
        "modified": entry.modified.isoformat(timespec="microseconds"),
        "bundled": entry.bundled,
        "details": {
            "format": config.model_format,
            "family": config.model_family,
            "parameter_size": config.model_type,
            "quantization_level": config.file_type,
        },
    }


def _hex(entry: Entry) -> str:
    return entry.digest.removeprefix("sha256:")


def _warn(error: StoreError) -> None:
    typer.echo(f"warning: {error}", err=True)
