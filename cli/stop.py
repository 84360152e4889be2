"""`llm stop`: have a running server let go of models."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="The models, as `llm ps` names them.")
    ],
) -> None:
    """Have a server let go of models; one that is answering goes once it is done.

    \b
    Examples:
      llm stop qwen3
      llm ps --json | jq -r '.[].name' | xargs llm stop
    """
    from ..errors import ModelNotFound
    from ..registry.name import ModelName
    from .connection import configured_server, loaded_models

    loaded = {str(model["name"]) for model in loaded_models()}
    for name in models:
        known = {each for each in loaded if each == name or ModelName.parse(each) == ModelName.parse(name)}
        if not known:
            raise ModelNotFound(f"model '{name}' is not in the server's memory", hint="llm ps")
        request = {"model": known.pop(), "keep_alive": 0, "stream": False}
        configured_server().ask("POST", "/api/generate", request)
