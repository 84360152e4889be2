"""`llm explain`: where every setting comes from, and what exactly the model would be given."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest
from .options import LoadFlags, Model, ReplyFlags, with_groups
from .sampler_options import SamplerFlags
from .terminal import is_tty
from .think_options import ThinkFlags

if TYPE_CHECKING:
    from ..chat.message import Message
    from .explanation import Question
    from .repl.chat import Setup

_PIPED = 80  # columns


@with_groups
def command(
    model: Model,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROMPT]", help="What would be asked; what is piped in comes before it."),
    ] = None,
    *,
    resume: Annotated[
        int | None, typer.Option("--resume", metavar="ID", help="As a kept conversation would go on.")
    ] = None,
    reply: ReplyFlags,
    thinking: ThinkFlags,
    sampling: SamplerFlags,
    loading: LoadFlags,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what is off, and every token.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show where every setting comes from and what the model would be given; nothing is asked, no weight is loaded.

    Takes the options of llm run: put explain in the place of run. A setting comes from the command line (flag), a kept
    conversation (session), the environment, the Modelfile or the model's own files (gguf, generation_config); else it
    is mull's default.

    \b
    Examples:
      llm explain pocket
      llm explain pocket "What is 347 + 685?" --think 200
      llm explain ./qwen3-8b.gguf --num-ctx 32K --system "Be brief." "Hello"
      llm explain qwen3 --resume 12 "And then?"
      llm explain pocket "Hi" --json | jq .prompt.tokens
    """
    from ..settings import load_settings

    loading.check()
    if reply.raw and reply.system is not None:
        raise InvalidRequest("--raw uses no template, so --system has no place", field="system")
    question = _question(model, _text(prompt), reply, sampling.given() | thinking.given(), loading, resume)
    from .explanation import explain

    found = explain(question, load_settings())
    if as_json:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(found), indent=2, ensure_ascii=False, default=str))
        return
    from .explain_lines import explanation_lines

    wrap = is_tty(sys.stdout)
    width = shutil.get_terminal_size((_PIPED, 24)).columns if wrap else _PIPED
    print("\n".join(explanation_lines(found, width, verbose=verbose, wrap=wrap)))


def _text(words: list[str] | None) -> str | None:
    """Return what was piped in followed by the words of the command line; None if there is neither."""
    from .inputs import read_argument, read_stdin

    typed = read_argument(" ".join(words)) if words else None
    piped = "" if is_tty(sys.stdin) else read_stdin()
    if typed is None:
        return piped.removesuffix("\n") if piped.strip() else None
    return piped + ("\n" if piped and not piped.endswith("\n") else "") + typed


def _question(
    model: str,
    text: str | None,
    reply: ReplyFlags,
    options: dict[str, object],
    loading: LoadFlags,
    resume: int | None,
) -> Question:
    """Return what is asked: the command line's, with what a conversation has kept."""
    from ..registry.target import find_target
    from ..runtime.load_options import LoadOptions
    from .answer_format import read_format
    from .inputs import read_argument

    find_target(model)  # a wrong name is told before torch is imported
    setup, messages = _kept(resume)
    from .explanation import Question

    load = LoadOptions(
        dtype=loading.dtype,
        device=loading.device,
        num_ctx=loading.num_ctx,
        threads=loading.threads or None,
        cache_type_k=loading.cache_type_k,
        cache_type_v=loading.cache_type_v,
        quantize=loading.quantize,
        speculate=loading.speculate,
        draft=loading.draft,
    )
    system = read_argument(reply.system) if reply.system is not None else setup.system if setup else None
    return Question(
        model,
        text,
        load,
        raw=reply.raw,
        system=system,
        options=options,
        kept=setup.options if setup else None,
        messages=() if reply.raw else messages,
        format=read_format(reply.format, reply.grammar) or (setup.format if setup else None),
        num_ctx=setup.num_ctx if setup else None,
    )


def _kept(number: int | None) -> tuple[Setup | None, tuple[Message, ...]]:
    """Return what a conversation has set, and its messages; raises InvalidRequest where there is none."""
    if number is None:
        return None, ()
    from ..chat.history import History
    from ..settings import load_settings
    from .chat import kept_conversation
    from .chat_files import HISTORY_FILE, chat_folder
    from .repl.chat import Setup

    found = kept_conversation(go_on=False, number=number)
    assert found is not None
    with History(chat_folder(load_settings()) / HISTORY_FILE) as history:
        messages = tuple(saved.message for saved in history.messages(number))
    return Setup.from_json(found.options), messages
