"""The keys of the prompt beside prompt_toolkit's own: several lines, the editor, the last thought."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus, is_searching
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from ...errors import MullError
from .editor import edit_text

QUOTES = '"""'

SHORTCUTS = (
    ("Enter", "send"),
    ("Alt-Enter", "begin another line"),
    (QUOTES, "begin and end a text of several lines"),
    ("Ctrl-G", "write in your editor (VISUAL, EDITOR)"),
    ("Ctrl-O", "show the last thought; during a reply: open or fold thoughts"),
    ("Ctrl-T", "during a thought: answer now"),
    ("Ctrl-C", "during a thought: answer now; during an answer: stop, and keep what came"),
    ("Ctrl-R", "search what was typed before"),
    ("Tab", "complete commands, models and files"),
    ("Ctrl-D", "leave"),
)


def make_bindings(show_thought: Callable[[], None], complain: Callable[[MullError], None]) -> KeyBindings:
    """Return the bindings; show_thought prints the last thought above the prompt."""
    bindings = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER) & ~is_searching

    @bindings.add("enter", filter=typing)
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_unfinished(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("escape", "enter", filter=typing)
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-g", filter=typing)
    def edit(event: KeyPressEvent) -> None:
        buffer = event.current_buffer

        def in_terminal() -> None:
            try:
                edited = edit_text(buffer.text)
            except MullError as error:
                complain(error)
                return
            buffer.text = edited
            buffer.cursor_position = len(edited)

        run_in_terminal(in_terminal)

    @bindings.add("c-o", filter=typing)
    def thought(event: KeyPressEvent) -> None:
        run_in_terminal(show_thought)

    return bindings


def is_unfinished(text: str) -> bool:
    '''Tell whether a text has a `"""` that nothing closes yet.'''
    return text.count(QUOTES) % 2 == 1 and _opens(text)


def _opens(text: str) -> bool:
    """Whether quotes stand where a text begins: at its start, or behind the words of a command."""
    start = text.lstrip()
    return start.startswith(QUOTES) or (start.startswith("/") and f" {QUOTES}" in start)


def without_quotes(text: str) -> str:
    '''Return a message without the `"""` around it.'''
    stripped = text.strip()
    if stripped.startswith(QUOTES) and stripped.endswith(QUOTES) and len(stripped) >= 2 * len(QUOTES):
        return stripped[len(QUOTES) : -len(QUOTES)].strip("\n")
    return text
