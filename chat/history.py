"""Conversations kept in one private SQLite file: all that was ever said, and what each of them holds now."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import HistoryError
from .message import Message

_VERSION = 1
_WAIT = 5.0  # seconds that a second process may hold the file
_TITLE = 60  # characters
_LAST_ID = 2**63 - 1
_SCHEMA = """
CREATE TABLE conversation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    parent INTEGER REFERENCES conversation(id) ON DELETE SET NULL,
    title TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL,
    options TEXT NOT NULL DEFAULT '{}',
    head INTEGER,
    created REAL NOT NULL,
    updated REAL NOT NULL
);
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation INTEGER NOT NULL,
    before INTEGER,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    thinking TEXT,
    state TEXT NOT NULL DEFAULT 'whole',
    model TEXT,
    details TEXT NOT NULL DEFAULT '{}',
    created REAL NOT NULL
);
CREATE TABLE piece (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    thought INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX message_conversation ON message(conversation);
CREATE INDEX piece_message ON piece(message);
"""
_PATH = """
WITH RECURSIVE path(id, before, depth) AS (
    SELECT id, before, 0 FROM message WHERE id = ?
    UNION ALL
    SELECT message.id, message.before, depth + 1 FROM message JOIN path ON message.id = path.before
)
"""
_REACHED = """
WITH RECURSIVE reached(id) AS (
    SELECT head FROM conversation WHERE head IS NOT NULL
    UNION
    SELECT message.before FROM message JOIN reached ON message.id = reached.id WHERE message.before IS NOT NULL
)
"""
# What has come of a message that is still being written: of its answer, or of its thought.
_COMING = (
    "(SELECT group_concat(text, '') FROM"
    " (SELECT text FROM piece WHERE piece.message = message.id AND thought = {} ORDER BY id))"
)


@dataclass(frozen=True, slots=True)
class Saved:
    """A message that is kept: its number; open: its writer was killed, or writes it now."""

    id: int
    message: Message
    created: float
    model: str | None = None
    open: bool = False
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation without its messages.

    parent: the one that it branched off; options: what was set for it; head: its last message.
    """

    id: int
    parent: int | None
    title: str
    model: str
    options: Mapping[str, object]
    created: float
    updated: float
    num_messages: int
    head: int | None


class History:
    """The file of conversations.

    Messages form a tree: each knows the one before it, and a conversation knows its last. To take back, to answer
    again and to branch moves that end and deletes nothing.
    """

    def __init__(self, path: Path) -> None:
        """Open the file or make it, for this user alone; raises HistoryError."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives its other files the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise HistoryError(f"cannot keep conversations in {path}: {_reason(error)}") from None
        with self._sorry():
            self._db = sqlite3.connect(path, timeout=_WAIT, isolation_level=None)
            self._db.create_function("holds", 2, _holds, deterministic=True)
            self._prepare()

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(
        self,
        model: str,
        options: Mapping[str, object],
        *,
        parent: int | None = None,
        head: int | None = None,
        title: str = "",
    ) -> int:
        """Start a conversation, after the message `head` of another if it branches off; return its number."""
        now = time.time()
        with self._changing():
            cursor = self._db.execute(
                "INSERT INTO conversation(parent, title, model, options, head, created, updated)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (parent, title[:_TITLE], model, _dump(options), head, now, now),
            )
            return int(cursor.lastrowid or 0)

    def add(
        self,
        conversation: int,
        before: int | None,
        *messages: Message,
        model: str | None = None,
        is_open: bool = False,
    ) -> list[int]:
        """Add messages after another, all or none, and make the last the conversation's last; return their numbers.

        is_open: the last is still to be written.
        """
        now, numbers = time.time(), []
        with self._changing():
            for index, message in enumerate(messages):
                state = "open" if is_open and index == len(messages) - 1 else "whole"
                cursor = self._db.execute(
                    "INSERT INTO message(conversation, before, role, content, thinking, state, model, created)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        conversation,
                        before,
                        message.role,
                        message.content,
                        message.thinking,
                        state,
                        model,
                        now,
                    ),
                )
                before = int(cursor.lastrowid or 0)
                numbers.append(before)
                if message.role == "user":
                    self._db.execute(
                        "UPDATE conversation SET title = ? WHERE id = ? AND title = ''",
                        (" ".join(message.content[: 4 * _TITLE].split())[:_TITLE], conversation),
                    )
            self._db.execute(
                "UPDATE conversation SET head = ?, updated = ? WHERE id = ?", (before, now, conversation)
            )
        return numbers

    def append(self, message: int, text: str, *, thought: bool) -> None:
        """Add what has come of a message that is still being written."""
        with self._sorry():
            self._db.execute(
                "INSERT INTO piece(message, thought, text) VALUES (?, ?, ?)", (message, thought, text)
            )

    def finish(
        self,
        message: int,
        content: str,
        thinking: str | None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Put the whole of a message in the place of its pieces."""
        with self._changing():
            self._db.execute(
                "UPDATE message SET content = ?, thinking = ?, state = 'whole', details = ? WHERE id = ?",
                (content, thinking, _dump(details or {}), message),
            )
            self._db.execute("DELETE FROM piece WHERE message = ?", (message,))

    def move(self, conversation: int, head: int | None) -> None:
        """Make another message the conversation's last, or none."""
        with self._changing():
            self._db.execute(
                "UPDATE conversation SET head = ?, updated = ? WHERE id = ?",
                (head, time.time(), conversation),
            )

    def describe(self, conversation: int, model: str, options: Mapping[str, object]) -> None:
        """Note the model and the options that a conversation goes on with."""
        with self._changing():
            self._db.execute(
                "UPDATE conversation SET model = ?, options = ? WHERE id = ?",
                (model, _dump(options), conversation),
            )

    def find(self, conversation: int) -> Conversation | None:
        """Return a conversation, None if there is none of this number."""
        if not 0 < conversation <= _LAST_ID:
            return None
        return next(iter(self._conversations("WHERE id = ?", (conversation,))), None)

    def last(self) -> Conversation | None:
        """Return the conversation that was used last."""
        return next(iter(self._conversations("ORDER BY updated DESC, id DESC LIMIT 1")), None)

    def list(self, limit: int = -1) -> tuple[Conversation, ...]:
        """Return the conversations, the last used first; a negative limit means all."""
        return tuple(self._conversations("ORDER BY updated DESC, id DESC LIMIT ?", (limit,)))

    def messages(self, conversation: int) -> tuple[Saved, ...]:
        """Return what a conversation holds now, the first message first."""
        with self._sorry():
            row = self._db.execute("SELECT head FROM conversation WHERE id = ?", (conversation,)).fetchone()
            if row is None or row[0] is None:
                return ()
            rows = self._db.execute(
                _PATH
                + "SELECT message.id, role, content, thinking, state, model, details, created FROM path"
                + " JOIN message ON message.id = path.id ORDER BY depth DESC",
                (row[0],),
            ).fetchall()
            return tuple(self._saved(row) for row in rows)

    def search(self, text: str, limit: int = -1) -> tuple[tuple[Conversation, Saved], ...]:
        """Return the messages that contain a text, upper and lower case alike, the newest first."""
        with self._sorry():
            rows = self._db.execute(
                "SELECT message.id, role, content, thinking, state, message.model, details, message.created,"
                " conversation FROM message JOIN conversation ON conversation.id = message.conversation"
                " WHERE holds(content, :part) OR holds(coalesce(thinking, ''), :part) OR state = 'open' AND ("
                + " OR ".join(f"holds(coalesce({_COMING.format(thought)}, ''), :part)" for thought in (0, 1))
                + ") ORDER BY message.id DESC LIMIT :limit",
                {"part": text.casefold(), "limit": limit},
            ).fetchall()
            found = {talk.id: talk for talk in self._conversations("")}
            return tuple((found[row[8]], self._saved(row[:8])) for row in rows if row[8] in found)

    def remove(self, conversation: int) -> None:
        """Delete a conversation and its messages, but for those that a branch of it still holds."""
        with self._changing():
            self._db.execute("UPDATE conversation SET parent = NULL WHERE parent = ?", (conversation,))
            self._db.execute("DELETE FROM conversation WHERE id = ?", (conversation,))
            self._db.execute(
                _REACHED
                + "DELETE FROM message WHERE conversation NOT IN (SELECT id FROM conversation)"
                + " AND id NOT IN (SELECT id FROM reached)"
            )
            self._db.execute("DELETE FROM piece WHERE message NOT IN (SELECT id FROM message)")
            for branch, head in self._db.execute("SELECT id, head FROM conversation ORDER BY id").fetchall():
                self._db.execute(
                    _PATH
                    + "UPDATE message SET conversation = ? WHERE conversation = ? AND id IN (SELECT id FROM path)",
                    (head, branch, conversation),
                )
        with self._sorry():  # what was removed must not stay readable beside the file
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA secure_delete = ON")
        with self._changing():  # one process makes the tables, another waits
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise HistoryError(
                    f"{self.path} was written by a newer mull", hint="upgrade, or --no-log to leave it alone"
                )
            if version < _VERSION:
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def _conversations(self, rest: str, values: tuple[object, ...] = ()) -> Iterator[Conversation]:
        with self._sorry():
            rows = self._db.execute(
                "SELECT id, parent, title, model, options, created, updated, head FROM conversation " + rest,
                values,
            ).fetchall()
            for row in rows:
                count = self._db.execute(_PATH + "SELECT count(*) FROM path", (row[7],)).fetchone()[0]
                yield Conversation(
                    row[0], row[1], row[2], row[3], _load(row[4]), row[5], row[6], count, row[7]
                )

    def _saved(self, row: tuple[int, str, str, str | None, str, str | None, str, float]) -> Saved:
        number, role, content, thinking, state, model, details, created = row
        if state == "open":
            pieces = self._db.execute(
                "SELECT thought, text FROM piece WHERE message = ? ORDER BY id", (number,)
            ).fetchall()
            content += "".join(text for thought, text in pieces if not thought)
            thinking = "".join(text for thought, text in pieces if thought) or thinking
        message = Message(role, content, thinking=thinking)  # type: ignore[arg-type]  # it was one
        return Saved(number, message, created, model, state == "open", _load(details))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Let several statements count together or not at all."""
        with self._sorry():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _sorry(self) -> Iterator[None]:
        """Turn what SQLite complains of into HistoryError."""
        try:
            yield
        except UnicodeEncodeError:
            raise HistoryError(f"{self.path} takes UTF-8 text only") from None
        except sqlite3.Error as error:
            broken = not isinstance(error, sqlite3.OperationalError)
            hint = f"move {self.path} away to begin anew" if broken else None
            raise HistoryError(f"the conversations in {self.path}: {error}", hint=hint) from None


def set_aside(path: Path) -> Path | None:
    """Rename a file of conversations that cannot be read, with what belongs to it; None if that fails."""
    aside = path.with_name(f"{path.name}.broken-{int(time.time())}")
    try:
        path.rename(aside)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    except OSError:
        return None
    return aside


def is_database(path: Path) -> bool:
    """Tell whether a file begins as SQLite's do, or is empty or absent."""
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError:
        return True  # whatever is wrong, it is not its contents
    return start in (b"", b"SQLite format 3\x00")


def _holds(text: str, part: str) -> bool:
    return part in text.casefold()


def _dump(value: Mapping[str, object]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, default=str)


def _load(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
