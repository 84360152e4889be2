"""Completes commands, and what may follow each: options, models, files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

_MOST = 200  # entries of a folder that are offered

Candidates = Callable[[list[str]], Iterable[str]]
"""From the words behind a command, the last of them incomplete, to what that may become."""


class SlashCompleter(Completer):
    """Completes a line that begins with a slash; commands: names and what to say of each."""

    def __init__(
        self, commands: Iterable[tuple[str, str]], candidates: Callable[[str], Candidates | None]
    ) -> None:
        self._commands = tuple(commands)
        self._candidates = candidates

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Yield what the word before the cursor may become."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, space, rest = text.partition(" ")
        if not space:
            for command, summary in self._commands:
                if command.startswith(name):
                    yield Completion(command, start_position=-len(name), display_meta=summary)
            return
        offer = self._candidates(name)
        if offer is None:
            return
        words = rest.split(" ")
        for word in offer(words):
            if word.casefold().startswith(words[-1].casefold()):
                yield Completion(word, start_position=-len(words[-1]))


def files(words: list[str]) -> Iterator[str]:
    """Offer files and folders, which end with a slash; names with spaces are left to be typed."""
    typed = words[-1]
    folder, _, start = typed.rpartition("/")
    # What was typed is not a path yet where the user's home is meant.
    where = Path(os.path.expanduser(folder + "/") if folder or typed.startswith("/") else ".")
    try:
        names = sorted(os.scandir(where), key=lambda entry: entry.name)[: _MOST * 10]
    except OSError:
        return
    count = 0
    for entry in names:
        if entry.name.startswith(start) and (start or not entry.name.startswith(".")) and count < _MOST:
            count += 1
            prefix = f"{folder}/" if "/" in typed else ""
            if entry.name.isprintable() and " " not in entry.name:
                yield prefix + entry.name + ("/" if entry.is_dir() else "")


def models(words: list[str]) -> list[str]:
    """Offer the models of the store, where one word is wanted."""
    from ...registry.store import Store
    from ...settings import load_settings

    if len(words) > 1:
        return []
    return [entry.name.short() for entry in Store(load_settings().models_dir).list()]


def words_of(*choices: str) -> Candidates:
    """Offer these, as the first word."""
    return lambda words: choices if len(words) == 1 else ()
