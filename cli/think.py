"""`llm think stats`: how long models think, how budgets were used, and what to set."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import InvalidRequest
from ..settings import load_settings

if TYPE_CHECKING:
    from .think_log import Habit


def command(
    what: Annotated[Literal["stats"], typer.Argument(metavar="stats", help="What to show.")],
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A model's name; all by default.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how long models think and how their budgets were used.

    Counts of the last 200 replies of each model are kept on this machine, and nothing else of them; `--no-log` keeps
    none.

    \b
    Examples:
      llm think stats
      llm think stats qwen3
      llm think stats --json | jq
    """
    from .think_log import ThinkLog, habit

    log = ThinkLog(load_settings().state_dir)
    known = log.models()
    if model is not None and model not in known:
        raise InvalidRequest(
            f"nothing is known of how {model} thinks",
            hint=f"known: {', '.join(known)}" if known else "it is counted as models are run with `llm run`",
        )
    habits = {name: habit(log.thoughts(name)) for name in ([model] if model else known)}
    if as_json:
        print(json.dumps({name: dataclasses.asdict(found) for name, found in habits.items()}))
        return
    if not habits:
        print("nothing yet: it is counted as models are run with `llm run`")
    for number, (name, found) in enumerate(habits.items()):
        print("\n" * bool(number) + "\n".join(_describe(name, found)))


def _describe(name: str, found: Habit) -> list[str]:
    lines = [f"{name}: {found.count} {'reply' if found.count == 1 else 'replies'}"]
    if found.median is not None:
        lines.append(f"  natural length  {found.median} tokens, 90 % within {found.p90}")
    lines.append(
        "  ends            " + ", ".join(f"{why} {share:.0%}" for why, share in found.reasons.items())
    )
    if found.utilisation is not None:
        lines.append(f"  budgets         {found.with_budget}, {found.utilisation:.0%} used on average")
    return [*lines, f"  advice          {found.advice}"]
