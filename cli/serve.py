"""`llm serve`: answer other programs over HTTP, as Ollama, OpenAI, Anthropic and llama.cpp do."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import with_groups
from .serve_options import ServeFlags
from .signals import ending_at_once


@with_groups
def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Models to load at once; others when they are asked for."),
    ] = None,
    *,
    serving: ServeFlags,
) -> None:
    """Answer other programs, in the dialects of Ollama, OpenAI, Anthropic and llama.cpp.

    Each option is also a variable, such as MULL_NUM_CTX; OLLAMA_HOST and its like are understood.

    \b
    Examples:
      llm serve
      llm serve qwen3 --num-ctx 32K --parallel 4
      llm serve --host 0.0.0.0 --api-key "$KEY" --origins https://chat.example.com
      llm serve --port 8080 --keep-alive -1 --think-max 2048
      llm serve --socket /run/user/1000/mull.sock
    """
    from dataclasses import replace

    from ..registry.target import find_target
    from ..settings import load_serving, load_settings
    from .serve_options import server_options, whole

    settings = load_settings()
    options, level = server_options(serving, load_serving(), tuple(models or ()))
    if serving.think_max is not None:
        settings = replace(settings, think_max=str(whole(serving.think_max, "--think-max", 0, 1 << 30)))
    draft = options.load.draft
    for model in (*options.models, *([draft] if draft else ())):
        find_target(model, settings)
    with ending_at_once():
        from ..server.running import serve, start_log
    start_log(level)
    serve(options, settings, lambda address: print(f"mull listens on {address}", flush=True))
