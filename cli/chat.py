"""`llm chat`: talk to a model, and go on with what was talked about before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import HistoryError, InvalidRequest
from .opening import open_llm
from .options import LoadFlags, ReplyFlags, in_panel, with_groups
from .sampler_options import SamplerFlags
from .terminal import Terminal
from .think_options import ThinkFlags

if TYPE_CHECKING:
    from ..chat.history import Conversation
    from .repl.chat import Setup
    from .statistics import Reply

_kept = in_panel("Conversations")


@with_groups
def command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="A model's name, a .gguf or a folder; by default the last one."
        ),
    ] = None,
    *,
    go_on: Annotated[bool, _kept("--continue -C", "Go on with the last conversation.")] = False,
    resume: Annotated[
        int | None, _kept("--resume", "Go on with the conversation of this number.", "ID")
    ] = None,
    overflow: Annotated[
        str | None,
        _kept("--overflow", "What becomes of a conversation that is too long: error, oldest, middle.", "HOW"),
    ] = None,
    reply: ReplyFlags,
    thinking: ThinkFlags,
    sampling: SamplerFlags,
    loading: LoadFlags,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show statistics after each answer.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notes.")] = False,
) -> None:
    """Talk to a model on the terminal.

    Conversations are kept on this machine, for this user alone; `--no-log` keeps nothing. `llm history` lists them.

    \b
    Examples:
      llm chat pocket
      llm chat qwen3 --think 512 --system "Answer in one sentence."
      llm chat --continue
      llm chat --resume 12
      llm chat qwen3 --num-ctx 32K --no-log
    """
    from ..settings import load_settings

    loading.check()
    if go_on and resume is not None:
        raise InvalidRequest("--continue and --resume exclude each other", hint="llm history list")
    setup = _setup(reply, thinking, sampling, overflow)
    kept = kept_conversation(go_on=go_on, number=resume)
    name = model or (kept.model if kept is not None else _last_model())
    if name is None:
        raise InvalidRequest("no model", hint="llm chat MODEL, such as: llm chat pocket")
    terminal = Terminal.detect(color=load_settings().color)
    from .repl.start import can_repl

    if not can_repl():
        if kept is not None:
            raise InvalidRequest("a kept conversation goes on in a terminal only")
        _chat_in_lines(name, setup, thinking, loading, terminal, quiet=quiet)
        return
    chat_with(name, kept, setup, thinking, loading, terminal, verbose=verbose, quiet=quiet)


def chat_with(
    name: str,
    kept: Conversation | None,
    setup: Setup,
    thinking: ThinkFlags,
    loading: LoadFlags,
    terminal: Terminal,
    *,
    verbose: bool,
    quiet: bool,
) -> None:
    """Open a model and talk on a terminal, going on with what is kept if that is given."""
    from .repl.chat import Setup
    from .repl.model import LocalOpener
    from .repl.reply_view import Manner
    from .repl.start import Wanted, start

    if kept is not None:
        before = Setup.from_json(kept.options)
        setup = Setup(
            setup.system if setup.system is not None else before.system,
            {**before.options, **setup.options},
            setup.format or before.format,
            setup.overflow or before.overflow,
            loading.num_ctx or before.num_ctx,
        )
    opener = LocalOpener(loading, terminal, quiet=quiet)
    opened = opener(name, setup.num_ctx)
    wanted = Wanted(
        setup,
        Manner(hide_thoughts=thinking.hide_thinking, quiet=quiet),
        number=None if kept is None else kept.id,
        log=not thinking.no_log,
        verbose=verbose or thinking.think_stats,
    )
    start(opened, opener, terminal, wanted, counting(opened.name, log=not thinking.no_log))


def _chat_in_lines(
    name: str, setup: Setup, thinking: ThinkFlags, loading: LoadFlags, terminal: Terminal, *, quiet: bool
) -> None:
    """Talk line by line, where one end is no terminal, or one that cannot move its cursor."""
    from .chat_lines import chat
    from .conversation import Conversation, Manner

    manner = Manner(
        system=setup.system,
        options=setup.options,
        hide_thinking=thinking.hide_thinking,
        quiet=quiet,
        format=setup.format,
    )
    with open_llm(name, loading, terminal, num_ctx=loading.num_ctx, quiet=quiet) as llm:
        chat(Conversation(llm, terminal, manner), terminal, quiet=quiet, after=lambda reply: None)


def _setup(reply: ReplyFlags, thinking: ThinkFlags, sampling: SamplerFlags, overflow: str | None) -> Setup:
    """Return what the command line sets; raises InvalidRequest."""
    from .answer_format import read_format
    from .inputs import read_argument
    from .repl.chat import Setup

    if reply.raw:
        raise InvalidRequest("--raw has no place in a chat", field="raw", hint='llm run MODEL --raw "…"')
    if sampling.logprobs is not None:
        raise InvalidRequest("--logprobs are shown by `llm run --json` only", field="logprobs")
    if overflow not in (None, "error", "oldest", "middle"):
        raise InvalidRequest(f"--overflow must be error, oldest or middle, not {overflow}", field="overflow")
    return Setup(
        None if reply.system is None else read_argument(reply.system),
        sampling.given() | thinking.given(),
        read_format(reply.format, reply.grammar),
        overflow,  # type: ignore[arg-type]  # checked above
    )


def kept_conversation(*, go_on: bool, number: int | None) -> Conversation | None:
    """Return the conversation to go on with; raises InvalidRequest where there is none."""
    from ..chat.history import History
    from ..settings import load_settings
    from .chat_files import HISTORY_FILE, chat_folder

    if not go_on and number is None:
        return None
    path = chat_folder(load_settings()) / HISTORY_FILE
    if not path.exists():
        raise InvalidRequest("no conversation is kept yet", hint="llm chat MODEL begins one")
    with History(path) as history:
        found = history.last() if number is None else history.find(number)
    if found is None:
        raise InvalidRequest(
            "no conversation is kept yet" if number is None else f"there is no conversation {number}",
            hint="llm history list",
        )
    return found


def _last_model() -> str | None:
    """Return the model of the last conversation, if anything is kept."""
    try:
        kept = kept_conversation(go_on=True, number=None)
    except (InvalidRequest, HistoryError):
        return None
    return None if kept is None else kept.model


def counting(model: str, *, log: bool) -> Callable[[Reply], None]:
    """Return what counts the thoughts of a model's replies for `llm think stats`."""
    from ..settings import load_settings
    from .think_log import ThinkLog

    thoughts = ThinkLog(load_settings().state_dir)

    def count(reply: Reply) -> None:
        report = reply.done.thinking.report
        if log and report is not None:
            thoughts.add(model, report)

    return count
