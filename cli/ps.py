"""`llm ps`: what a running server has in memory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

_FOREVER = 100 * 365 * 86400.0


def command(
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="Only names that begin with this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the models that a server has in memory, the one that stays longest first.

    The server is this machine's, or the one that MULL_HOST or OLLAMA_HOST names.

    \b
    Examples:
      llm ps
      llm ps --json
      OLLAMA_HOST=192.168.1.7 llm ps
    """
    from .connection import loaded_models

    models = [model for model in loaded_models() if str(model["name"]).lower().startswith(prefix.lower())]
    if as_json:
        import json

        print(json.dumps(models, indent=2, ensure_ascii=False))
        return
    from .formats import columns, printable

    rows = [["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]]
    for line in columns(rows + [[printable(cell) for cell in _row(model)] for model in models]):
        print(line)


def _row(model: Mapping[str, object]) -> list[str]:
    from .formats import human_bytes, human_duration

    size, on_gpu = _number(model.get("size")), _number(model.get("size_vram"))
    digest = str(model.get("digest", "")).removeprefix("sha256:")[:12]
    left = _seconds_until(str(model.get("expires_at", "")))
    until = (
        "Forever" if left > _FOREVER else "Stopping..." if left <= 0 else f"{human_duration(left)} from now"
    )
    share = round(100 * on_gpu / size) if size else 0
    where = "100% CPU" if share <= 0 else "100% GPU" if share >= 100 else f"{100 - share}%/{share}% CPU/GPU"
    context = _number(model.get("context_length"))
    return [str(model.get("name")), digest, human_bytes(size), where, str(context or "-"), until]


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _seconds_until(text: str) -> float:
    """Return how far off a moment is; for ever if it cannot be read."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 2 * _FOREVER
    return (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()
