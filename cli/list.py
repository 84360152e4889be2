"""`llm list`: the models on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..settings import load_remotes, load_settings

if TYPE_CHECKING:
    from ..errors import StoreError
    from ..registry.foreign import Found
    from ..registry.store import Entry, Store


def command(
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="Only names that begin with this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the names alone.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Add those of other programs, and where each lies.")
    ] = False,
) -> None:
    """List the models on this machine, the last modified first.

    With --all also those in Hugging Face's cache, in Ollama's store and in LM Studio's folder: `llm run` finds
    them by the names shown, and uses them where they lie.

    \b
    Examples:
      llm list
      llm list --all
      llm list qwen
      llm list --json
      llm list -q | xargs -n 1 llm show
    """
    from ..registry.store import Store

    store = Store(load_settings().models_dir)
    entries = [e for e in store.list(_warn) if _begins(e.name.short(), prefix)]
    others = [model for model in _others() if _begins(model.name, prefix)] if everything else []
    if as_json:
        import json

        own = [_describe(store, entry, located=everything) for entry in entries]
        print(json.dumps([*own, *map(_describe_other, others)], indent=2, ensure_ascii=False))
    elif quiet:
        from .formats import printable

        for name in (*(entry.name.short() for entry in entries), *(model.name for model in others)):
            print(printable(name))
    else:
        _print_table(store, entries, others, located=everything)


def _begins(name: str, prefix: str) -> bool:
    """Tell whether a name begins so, with or without Hugging Face's host."""
    return name.lower().startswith(prefix.lower()) or name.lower().startswith(f"hf.co/{prefix.lower()}")


def _others() -> list[Found]:
    from ..registry.foreign import foreign_models

    return foreign_models(load_remotes())


def _print_table(store: Store, entries: list[Entry], others: list[Found], *, located: bool) -> None:
    from .formats import columns, human_bytes, human_time, printable

    rows = [["NAME", "ID", "SIZE", "MODIFIED", *(["WHERE"] if located else [])]]
    for entry in entries:
        size, modified = human_bytes(entry.size), human_time(entry.modified)
        where = ["mull itself" if entry.bundled else str(store.root)] if located else []
        rows.append([entry.name.short(), _hex(entry)[:12], size, modified, *where])
    for model in others:
        size, modified = human_bytes(model.size), human_time(model.modified)
        mark = _hex(model.entry)[:12] if model.entry else "-"
        where = [f"{model.owner}: {model.path}"]
        rows.append([printable(model.name), mark, size, modified, *map(printable, where)])
    for line in columns(rows):
        print(line)


def _describe_other(model: Found) -> dict[str, object]:
    return {
        "name": model.name,
        "size": model.size,
        "modified": model.modified.isoformat(timespec="microseconds"),
        "owner": model.owner,
        "path": str(model.path),
    }


def _describe(store: Store, entry: Entry, *, located: bool) -> dict[str, object]:
    from ..errors import StoreError
    from ..registry.manifest import ModelConfig

    try:
        config = ModelConfig.from_bytes(store.read_blob(entry.manifest.config.digest))
    except StoreError:
        config = ModelConfig()
    place = {"owner": "mull", "path": str(store.root)} if located else {}
    return {
        **place,
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
