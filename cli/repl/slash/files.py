"""Commands that bring files in and take the conversation out."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import InvalidRequest
from ...chat_export import FORMS, export_chat
from ...inputs import read_text
from ..clipboard import copy
from ..completion import files
from ..markdown import code_blocks
from .command import Command, wrong_usage

if TYPE_CHECKING:
    from ..app import Repl

_MOST = 200  # files at once


def _read(repl: Repl, argument: str) -> None:
    """Take files along with the next question."""
    if not argument:
        raise wrong_usage("/read FILE|GLOB")
    paths = _matching(os.path.expanduser(argument))
    texts = [_quoted(path, read_text(path)) for path in paths]
    tokens = sum(repl.chat.model.count_tokens(text) for text in texts)
    repl.chat.attached += texts
    what = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files"
    repl.note(f"{what}: {tokens:,} tokens, to go with your next question")
    left = repl.chat.model.context_length - repl.chat.used
    if tokens > left:
        repl.note(f"that is more than the {max(left, 0):,} tokens that the context has left")


def _matching(pattern: str) -> list[Path]:
    """Return the files that a name or a pattern means."""
    path = Path(pattern)
    if os.path.isfile(pattern):  # unlike Path, of 3.11 too, it takes any text
        return [path]
    if os.path.isdir(pattern):
        raise InvalidRequest(f"{pattern} is a folder", hint=f"/read {pattern.rstrip('/')}/*")
    found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(name)]
    if not found:
        raise InvalidRequest(f"{pattern}: no such file")
    if len(found) > _MOST:
        raise InvalidRequest(f"{pattern} means {len(found)} files, more than {_MOST}")
    return found


def _quoted(path: Path, text: str) -> str:
    """Write a file so that its end is plain, whatever it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    end = "" if text.endswith("\n") or not text else "\n"
    name = str(path).encode("utf-8", "replace").decode()  # a file's name may be any bytes
    return f"{name}:\n{fence}{path.suffix.lstrip('.')}\n{text}{end}{fence}"


def _copy(repl: Repl, argument: str) -> None:
    """Put the last answer, or its last block of code, into the clipboard."""
    if argument not in ("", "code"):
        raise wrong_usage("/copy [code]")
    answer = repl.chat.answer
    if answer is None:
        raise InvalidRequest("there is no answer to copy")
    text, what = answer.content, "the answer"
    if argument:
        blocks = code_blocks(answer.content)
        if not blocks:
            raise InvalidRequest("there is no code in the last answer")
        text, what = blocks[-1], "the code"
    program = copy(text, repl.terminal.out)
    repl.note(f"{what} was given to {program}" if program else f"the terminal was asked to copy {what}")


def _export(repl: Repl, argument: str) -> None:
    """Write the conversation into a file."""
    form, _, name = argument.partition(" ")
    if form not in FORMS:
        raise wrong_usage("/export md|json [FILE]")
    chat = repl.chat
    if not chat.entries:
        raise InvalidRequest("there is nothing to export yet")
    number = chat.log.conversation
    path = Path(os.path.expanduser(name.strip() or f"chat{'' if number is None else f'-{number}'}.{form}"))
    title = " ".join((chat.entries[0].message.content or "Chat").split())[:60]
    text = export_chat(form, title, chat.model.name, chat.messages, chat.setup.options)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidRequest(f"{path} exists already", hint=f"/export {form} ANOTHER-NAME") from None
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
    repl.note(f"written to {path}")


COMMANDS = (
    Command("/read", "FILE|GLOB", "Take files along with the next question.", _read, files),
    Command(
        "/copy",
        "[code]",
        "Copy the last answer, or its last block of code.",
        _copy,
        lambda words: ["code"] if len(words) == 1 else [],
    ),
    Command(
        "/export",
        "md|json [FILE]",
        "Write the conversation into a file.",
        _export,
        lambda words: list(FORMS) if len(words) == 1 else list(files(words)),
    ),
)
