"""Puts a chat together: the terminal, the kept conversations, the model, the prompt."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from ...settings import load_console, load_settings
from ..chat_files import HISTORY_FILE, INPUT_FILE, chat_folder
from ..statistics import Reply
from ..terminal import Terminal, is_tty
from .app import Repl
from .chat import Chat, Setup
from .completion import SlashCompleter
from .keys import make_bindings
from .log import Log
from .model import ChatModel, Opener
from .plain import render_plain
from .prompt import Prompt
from .reply_view import Manner
from .screen import Look, Screen
from .slash import table


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a chat begins with; number: the kept conversation to go on with; log: whether anything is kept."""

    setup: Setup
    manner: Manner
    number: int | None = None
    log: bool = True
    verbose: bool = False


def can_repl() -> bool:
    """Tell whether this process has a terminal on which lines can be moved about and typed."""
    return is_tty(sys.stdin) and is_tty(sys.stdout) and not load_console().dumb


def start(
    model: ChatModel,
    opener: Opener,
    terminal: Terminal,
    wanted: Wanted,
    after: Callable[[Reply], None] = lambda reply: None,
) -> None:
    """Talk on this process's terminal until the user leaves."""
    settings, console = load_settings(), load_console()
    look = Look(color=terminal.color, unicode=console.unicode, markdown=terminal.color)
    screen = Screen(terminal.out, look)

    def note(text: str) -> None:
        screen.update(render_plain(f"note: {text}", screen.width, style="dim"), [])

    folder = chat_folder(settings)
    log = Log(None, note, lambda error: None)
    if wanted.log or wanted.number is not None:
        log = Log.open(
            folder / HISTORY_FILE, note, lambda error: note(f"{error.message}; from here on nothing is kept")
        )
    repl = Repl(Chat(model, opener, log, wanted.setup), screen, terminal, wanted.manner, after=after)
    repl.verbose = wanted.verbose
    repl.prompt = Prompt(
        look,
        folder / INPUT_FILE if wanted.log else None,
        SlashCompleter(table.summaries(), table.candidates),
        make_bindings(repl.show_thought, repl.complain),
        repl.status,
    )
    try:
        if not wanted.manner.quiet:
            for text in model.notes:
                note(text)
        found = None if wanted.number is None else log.find(wanted.number)
        if found is not None:
            repl.resume(found)
        elif wanted.number is not None:
            note(f"conversation {wanted.number} is not there any more; this is a new one")
        elif not wanted.manner.quiet:
            repl.note(f"{model.name}: /? lists the commands, Ctrl-C stops an answer, /bye or Ctrl-D leaves.")
        if not wanted.log:
            log.close()
        repl.run()
    finally:
        log.close()
        screen.clear()
        repl.chat.model.close()
