"""A plain chat, line by line, on a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ..errors import EngineStopped, MullError
from .conversation import Conversation
from .statistics import Reply
from .terminal import Terminal

_QUOTES = '"""'
_LEAVE = ("/bye", "/exit")
_INTRO = f"/bye or Ctrl-D leaves, Ctrl-C stops an answer, {_QUOTES} begins and ends several lines."


def chat(
    conversation: Conversation, terminal: Terminal, *, quiet: bool, after: Callable[[Reply], None]
) -> None:
    """Read messages and show replies until the user leaves; `after` is called with each whole reply."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # gives input() its line editing
    if not quiet:
        terminal.note(_INTRO)
    while True:
        try:
            text = read_message()
        except EOFError:
            print(file=terminal.out)
            return
        except KeyboardInterrupt:
            print(f"\n{_LEAVE[0]} or Ctrl-D leaves.", file=terminal.out)
            continue
        except UnicodeDecodeError:
            terminal.complain("that was not UTF-8 text")
            continue
        if text.strip() in _LEAVE:
            return
        if is_command(text):
            terminal.complain(f"there is no command {text.strip()} here", _INTRO)
        elif text.strip():
            _turn(conversation, terminal, text, after)


def read_message() -> str:
    '''Read a message: a line, or what stands between a `"""` that begins a line and one that ends a line.

    Raises EOFError and KeyboardInterrupt as input() does.
    '''
    line = input(">>> ")
    if not line.lstrip().startswith(_QUOTES):
        return line
    text = line.lstrip().removeprefix(_QUOTES)
    while not text.rstrip().endswith(_QUOTES):
        text += "\n" + input("... ")
    return text.rstrip().removesuffix(_QUOTES).strip("\n")


def is_command(text: str) -> bool:
    """Tell whether this looks like a command, and not like a path or a sentence."""
    word = text.strip()
    return word.startswith("/") and word[1:].isalpha()


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
