"""A plain chat, line by line, on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

from ..errors import EngineStopped, InvalidRequest, MullError
from .conversation import Conversation
from .inputs import read_argument
from .statistics import Reply
from .terminal import Terminal, is_tty

_QUOTES = '"""'
_LEAVE = ("/bye", "/exit")
_HELP = ("/?", "/help")
# Commands of Ollama's that take arguments: no question to a model begins so.
_ELSEWHERE = ("/clear", "/load", "/save", "/set", "/show")
_INTRO = f"/bye or Ctrl-D leaves, Ctrl-C stops an answer, {_QUOTES} stands around several lines."


def chat(
    conversation: Conversation, terminal: Terminal, *, quiet: bool, after: Callable[[Reply], None]
) -> None:
    """Read messages and show replies until the user leaves; `after` is called with each whole reply."""
    edit_lines()
    if not quiet:
        terminal.note(_INTRO)
    while True:
        try:
            text = read_argument(read_message())
        except EOFError:
            print(file=terminal.out)
            return
        except KeyboardInterrupt:
            print(f"\n{_LEAVE[0]} or Ctrl-D leaves.", file=terminal.out)
            continue
        except UnicodeDecodeError:
            terminal.complain("that was not UTF-8 text")
            continue
        except InvalidRequest as error:  # where Python lets such bytes pass
            terminal.complain(error.message)
            continue
        word = text.split(maxsplit=1)[0] if text.strip() else ""
        if word in _LEAVE:
            return
        if word in _HELP:
            terminal.note(_INTRO)
        elif is_command(text):
            terminal.complain(f"there is no command {word} here", _INTRO)
        elif text.strip():
            _turn(conversation, terminal, text, after)


def edit_lines() -> None:
    """Give input() its line editing, and let it take several pasted lines as one text."""
    with contextlib.suppress(ImportError):
        import readline

        # Python switches this off for its own prompt. libedit takes other commands.
        if "libedit" not in (readline.__doc__ or ""):
            readline.parse_and_bind("set enable-bracketed-paste on")


def read_message() -> str:
    '''Read a message: a line, or what stands between a `"""` that begins a line and one that ends a line.

    Raises EOFError and KeyboardInterrupt as input() does.
    '''
    prompt, more = (">>> ", "... ") if is_tty(sys.stdin) else ("", "")
    line = input(prompt)
    if not line.lstrip().startswith(_QUOTES):
        return line
    text = line.lstrip().removeprefix(_QUOTES)
    while not text.rstrip().endswith(_QUOTES):
        text += "\n" + input(more)
    return text.rstrip().removesuffix(_QUOTES).strip("\n")


def is_command(text: str) -> bool:
    """Tell whether this looks like a command, and not like a path or a sentence."""
    word = text.strip()
    return word.startswith("/") and (word[1:].isalpha() or word.split()[0] in _ELSEWHERE)


def _turn(conversation: Conversation, terminal: Terminal, text: str, after: Callable[[Reply], None]) -> None:
    try:
        after(conversation.ask(text))
        print(file=terminal.out)
    except KeyboardInterrupt:
        print(file=terminal.out)
    except EngineStopped:
        raise
    except MullError as error:
        terminal.complain(error.message, error.hint)
