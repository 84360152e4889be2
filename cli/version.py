"""`llm version`: which mull this is."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__


def command(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False) -> None:
    """Print the version.

    \b
    Examples:
      llm version
      llm version --json
    """
    print(f'{{"version": "{__version__}"}}' if as_json else f"mull {__version__}")
