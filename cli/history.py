"""`llm history`: the conversations that are kept on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import InvalidRequest
from .chat_export import FORMS, export_chat
from .chat_files import HISTORY_FILE, chat_folder, conversation_id
from .formats import columns, human_time, printable
from .terminal import for_screen

if TYPE_CHECKING:
    from ..chat.history import Conversation, History, Saved

_AROUND = 30  # characters shown on each side of what was searched for


def command(
    action: Annotated[
        Literal["list", "search", "show", "export", "rm"],
        typer.Argument(metavar="list|search|show|export|rm", help="What to do."),
    ] = "list",
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID...|TEXT]", help="Conversations by number, or the text to search for."),
    ] = None,
    *,
    form: Annotated[str, typer.Option("--format", "-f", metavar="md|json", help="How to export.")] = "md",
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="At most N rows; 0: all.")] = 0,
    everything: Annotated[bool, typer.Option("--all", help="With rm: all conversations.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List, search, show, export and remove kept conversations.

    They are in one SQLite file that only this user may read. A branch keeps what it shares with a removed one.

    \b
    Examples:
      llm history
      llm history search "binary tree"
      llm history show 12
      llm history export 12 --format json > chat.json
      llm history rm 12 13
      llm chat --resume 12
    """
    from ..chat.history import History
    from ..settings import load_settings

    words = what or []
    if form not in FORMS:
        raise InvalidRequest(f"--format must be md or json, not {form}")
    path = chat_folder(load_settings()) / HISTORY_FILE
    if not path.exists():
        if action in ("list", "search"):
            print("[]" if as_json else "nothing is kept yet: llm chat MODEL begins a conversation")
            return
        raise InvalidRequest("nothing is kept yet")
    with History(path) as history:
        if action == "list":
            _list(history, limit or -1, as_json=as_json)
        elif action == "search":
            _search(history, " ".join(words), limit or -1, as_json=as_json)
        elif action == "rm":
            _remove(history, words, everything=everything)
        else:
            talk = _one(history, words)
            text = _whole(history, talk, "json" if as_json else form)
            print(for_screen(text), end="")


def _list(history: History, limit: int, *, as_json: bool) -> None:
    talks = history.list(limit)
    if as_json:
        print(json.dumps([_facts(talk) for talk in talks], ensure_ascii=False))
        return
    rows = [["ID", "MODEL", "MESSAGES", "MODIFIED", "TITLE"]]
    for talk in talks:
        title = printable(talk.title) + (f" (branch of {talk.parent})" if talk.parent is not None else "")
        rows.append([str(talk.id), printable(talk.model), str(talk.num_messages), _ago(talk.updated), title])
    print("\n".join(columns(rows)))


def _search(history: History, text: str, limit: int, *, as_json: bool) -> None:
    if not text:
        raise InvalidRequest("nothing to search for", hint='llm history search "some words"')
    found = history.search(text, limit)
    if as_json:
        rows = [
            {**_facts(talk), "role": saved.message.role, "text": saved.message.content}
            for talk, saved in found
        ]
        print(json.dumps(rows, ensure_ascii=False))
        return
    for talk, saved in found:
        print(f"{talk.id}  {_ago(saved.created)}  {saved.message.role}: {_excerpt(saved, text)}")
    if not found:
        print(f"nothing that is kept contains {printable(text)!r}")


def _remove(history: History, words: list[str], *, everything: bool) -> None:
    talks = list(history.list()) if everything else [_find(history, word) for word in words]
    if not talks and not everything:
        raise InvalidRequest("which conversations?", hint="llm history rm ID..., or --all")
    for talk in talks:
        history.remove(talk.id)
        print(f"removed {talk.id}")


def _one(history: History, words: list[str]) -> Conversation:
    """Return the one conversation that was named, or else the last."""
    if len(words) > 1:
        raise InvalidRequest("one conversation at a time")
    if words:
        return _find(history, words[0])
    last = history.last()
    if last is None:
        raise InvalidRequest("nothing is kept yet")
    return last


def _find(history: History, word: str) -> Conversation:
    number = conversation_id(word)
    found = None if number is None else history.find(number)
    if found is None:
        raise InvalidRequest(f"there is no conversation {printable(word)}", hint="llm history list")
    return found


def _whole(history: History, talk: Conversation, form: str) -> str:
    from ..chat.message import Message
    from .repl.chat import Setup

    setup = Setup.from_json(talk.options)
    system = [] if setup.system is None else [Message("system", setup.system)]
    said = [saved.message for saved in history.messages(talk.id)]
    return export_chat(form, talk.title, talk.model, [*system, *said], setup.options)


def _excerpt(saved: Saved, text: str) -> str:
    """Return what stands around the place that was found."""
    for whole in (saved.message.content, saved.message.thinking or ""):
        at = whole.casefold().find(text.casefold())
        if at >= 0:
            start, end = max(at - _AROUND, 0), at + len(text) + _AROUND
            cut = " ".join(whole[start:end].split())
            return printable(("…" if start else "") + cut + ("…" if end < len(whole) else ""))
    return ""


def _facts(talk: Conversation) -> dict[str, object]:
    return {
        "id": talk.id,
        "parent": talk.parent,
        "title": talk.title,
        "model": talk.model,
        "messages": talk.num_messages,
        "created": talk.created,
        "updated": talk.updated,
    }


def _ago(moment: float) -> str:
    from datetime import UTC, datetime

    return human_time(datetime.fromtimestamp(moment, UTC))
