"""`llm run`: ask a model once, or chat with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest
from .opening import open_llm
from .options import LoadFlags, Model, OutputFlags, ReplyFlags, with_groups
from .sampler_options import SamplerFlags
from .terminal import Terminal, is_tty
from .think_options import ThinkFlags

if TYPE_CHECKING:
    from .conversation import Conversation, Manner
    from .report import Report


@with_groups
def command(
    model: Model,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROMPT]", help="What to ask; what is piped in comes before it."),
    ] = None,
    *,
    reply: ReplyFlags,
    thinking: ThinkFlags,
    sampling: SamplerFlags,
    loading: LoadFlags,
    output: OutputFlags,
) -> None:
    """Ask a model, or without a prompt chat with it.

    The answer goes to stdout; thoughts, progress and statistics go to stderr.

    \b
    Examples:
      llm run pocket "What is 347 + 685?"
      llm run ./qwen3-8b.gguf --think off --temperature 0 "Name three rivers."
      llm run qwen3 --think 512 --think-stats "Why is the sky blue?"
      cat report.txt | llm run qwen3 --num-ctx 32K "Summarise this."
      llm run pocket --json -n 200 "What is 2 + 2?" | jq .token_ids
      llm run qwen3 --format person.schema.json "Describe Ada Lovelace."
      llm run qwen3 --raw "Once upon a time"
      llm run qwen3:8b --draft qwen3:0.6b "Write a parser for INI files."
      llm run ./Qwen3-8B --quantize nf4 "Why is the sky blue?"
      llm run qwen3
    """
    from ..settings import load_settings
    from .answer_format import read_format
    from .conversation import Conversation, Manner
    from .inputs import read_argument
    from .report import Report

    options = _check(reply, thinking, sampling, loading, output)
    form = read_format(reply.format, reply.grammar)
    text = read_prompt(prompt, raw=reply.raw)
    terminal = Terminal.detect(color=load_settings().color)
    if text is None:
        _check_can_chat(reply, output, terminal)
    manner = Manner(
        system=None if reply.system is None else read_argument(reply.system),
        options=options,
        hide_thinking=thinking.hide_thinking,
        quiet=output.quiet,
        silent=output.as_json,
        format=form,
    )
    if text is None and _can_repl():
        _chat(model, manner, thinking, loading, terminal, verbose=output.verbose)
        return
    with open_llm(model, loading, terminal, num_ctx=loading.num_ctx, quiet=output.quiet) as llm:
        for note in () if output.quiet else llm.notes:
            print(f"note: {note}", file=terminal.err)
        report = Report(llm, terminal, options, loading, output, thinking)
        _talk(Conversation(llm, terminal, manner), text, report, output, raw=reply.raw)


def _talk(
    conversation: Conversation, text: str | None, report: Report, output: OutputFlags, *, raw: bool
) -> None:
    """Chat, or answer one question as often as is wanted."""
    if text is None:
        from .chat_lines import chat

        chat(conversation, conversation.terminal, quiet=output.quiet, after=report)
    elif output.count() > 1:
        from .samples import answer_many

        answer_many(conversation, text, output.count(), report, vote=output.vote, raw=raw)
    else:
        report(conversation.ask_raw(text) if raw else conversation.ask(text))


def _can_repl() -> bool:
    """Tell whether the terminal does for the chat of `llm chat`, rather than one line by line."""
    from .repl.start import can_repl

    return can_repl()


def _chat(
    model: str,
    manner: Manner,
    thinking: ThinkFlags,
    loading: LoadFlags,
    terminal: Terminal,
    *,
    verbose: bool,
) -> None:
    """Talk as `llm chat` does."""
    from .chat import chat_with
    from .repl.chat import Setup

    setup = Setup(manner.system, dict(manner.options), manner.format)
    chat_with(model, None, setup, thinking, loading, terminal, verbose=verbose, quiet=manner.quiet)


def _check(
    reply: ReplyFlags, thinking: ThinkFlags, sampling: SamplerFlags, loading: LoadFlags, output: OutputFlags
) -> dict[str, object]:
    """Return the options that were set; raises InvalidRequest for what makes no sense before a model is loaded."""
    loading.check()
    output.count()
    if sampling.logprobs is not None and not output.as_json:
        raise InvalidRequest("--logprobs are shown with --json only", field="logprobs", hint="add --json")
    if reply.raw and reply.system is not None:
        raise InvalidRequest("--raw uses no template, so --system has no place", field="system")
    return sampling.given() | thinking.given()


def read_prompt(words: list[str] | None, *, raw: bool) -> str | None:
    """Return what was piped in followed by the words of the command line; None if there is neither.

    Raises InvalidRequest where a prompt is needed and absent: only a terminal can be asked for one.
    """
    from .inputs import read_argument, read_stdin

    typed = read_argument(" ".join(words)) if words else None
    if is_tty(sys.stdin):
        if typed is None:
            return None
        text = typed
    else:
        piped = read_stdin()
        if typed is None:
            # The last line's end belongs to the line, not to the question.
            text = piped if raw else piped.removesuffix("\n")
        else:
            text = piped + ("\n" if piped and not piped.endswith("\n") else "") + typed
    if not text.strip() and not (raw and text):
        raise InvalidRequest("no prompt", field="prompt", hint='llm run MODEL "your question"')
    return text


def _check_can_chat(reply: ReplyFlags, output: OutputFlags, terminal: Terminal) -> None:
    """Raise InvalidRequest if there is neither a prompt nor a way to type one."""
    several = "--samples" if output.count() > 1 else ""
    reason = "--json" if output.as_json else "--raw" if reply.raw else several
    if reason or not terminal.out_is_tty:
        raise InvalidRequest(
            f"{reason} needs a prompt" if reason else "no prompt",
            field="prompt",
            hint='llm run MODEL "your question"',
        )
