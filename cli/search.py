"""`llm search`: look for models on Hugging Face."""

from __future__ import annotations

from typing import Annotated

import typer

from ..settings import load_remotes


def command(
    term: Annotated[list[str], typer.Argument(metavar="TERM...", help="Words of the name.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 20,
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help="Models as trained, and not GGUF files.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the names alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Search Hugging Face for models that can be run, the most downloaded first.

    \b
    Examples:
      llm search qwen3 8b
      llm search smollm --safetensors -n 5
      llm pull "$(llm search -q -n 1 qwen3 0.6b)"
    """
    import json
    from dataclasses import asdict

    from ..registry.sources.hub import search_hub
    from ..registry.web import Web
    from .formats import columns, human_number, printable

    with Web() as web:
        hits = search_hub(" ".join(term), load_remotes(), web, limit=limit, gguf=not safetensors)
    if as_json:
        print(json.dumps([asdict(hit) for hit in hits], indent=2, ensure_ascii=False))
    elif quiet:
        for hit in hits:
            print(printable(hit.name))
    elif not hits:
        words = printable(" ".join(term))
        typer.echo(f"nothing on Hugging Face is called '{words}'", err=True)
    else:
        rows = [["NAME", "DOWNLOADS", "LIKES", "FROM", ""]]
        rows += [
            [
                printable(h.name),
                human_number(h.downloads),
                str(h.likes),
                h.modified,
                "gated" if h.gated else "",
            ]
            for h in hits
        ]
        for line in columns(rows):
            print(line)
