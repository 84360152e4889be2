"""Kept conversations: a tree of messages in a private file that survives its writer."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from mull.chat.history import History, is_database, set_aside
from mull.chat.message import Message
from mull.errors import HistoryError


@pytest.fixture
def history(tmp_path: Path):
    with History(tmp_path / "private" / "kept.db") as history:
        yield history


def say(history: History, talk: int, *texts: str, before: int | None = None) -> int | None:
    for number, text in enumerate(texts):
        role = "assistant" if number % 2 else "user"
        (before,) = history.add(talk, before, Message(role, text))
    return before


def texts(history: History, talk: int) -> list[str]:
    return [saved.message.content for saved in history.messages(talk)]


def test_only_its_user_may_read_it(history: History) -> None:
    history.begin("m", {})
    for path in [history.path, *history.path.parent.glob("kept.db-*")]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.path.parent.stat().st_mode) == 0o700


def test_a_conversation_comes_back(history: History, tmp_path: Path) -> None:
    talk = history.begin("pocket", {"options": {"top_k": 1}})
    say(history, talk, "what\n is it?", "this")
    with History(history.path) as again:
        found = again.last()
        assert found is not None
        assert (found.id, found.model, found.title, found.num_messages) == (talk, "pocket", "what is it?", 2)
        assert found.options == {"options": {"top_k": 1}}
        assert texts(again, talk) == ["what\n is it?", "this"]
        assert again.find(talk + 1) is None
        assert again.find(10**30) is None


def test_the_last_used_is_first(history: History) -> None:
    first, second = history.begin("a", {}), history.begin("b", {})
    say(history, first, "later")
    assert [talk.id for talk in history.list()] == [first, second]
    assert [talk.id for talk in history.list(1)] == [first]


def test_to_take_back_deletes_nothing(history: History) -> None:
    talk = history.begin("m", {})
    asked = say(history, talk, "one", "two")
    say(history, talk, "three", "four", before=asked)
    history.move(talk, asked)
    assert texts(history, talk) == ["one", "two"]
    say(history, talk, "other", before=asked)
    assert texts(history, talk) == ["one", "two", "other"]
    assert len(history.search("three")) == 1
    history.move(talk, None)
    assert texts(history, talk) == []


def test_a_branch_outlives_what_it_came_from(history: History) -> None:
    talk = history.begin("m", {})
    shared = say(history, talk, "one", "two")
    say(history, talk, "three", before=shared)
    branch = history.begin("m", {}, parent=talk, head=shared, title="aside")
    say(history, branch, "else", before=shared)
    assert texts(history, branch) == ["one", "two", "else"]
    assert texts(history, talk) == ["one", "two", "three"]
    history.remove(talk)
    found = history.find(branch)
    assert found is not None
    assert (found.parent, found.title) == (None, "aside")
    assert texts(history, branch) == ["one", "two", "else"]
    assert history.search("three") == ()
    ((found, saved),) = history.search("two")
    assert (found.id, saved.message.content) == (branch, "two")
    history.remove(branch)
    assert history.list() == ()
    with closing(sqlite3.connect(history.path)) as db:
        assert db.execute("SELECT count(*) FROM message").fetchone() == (0,)


def test_what_was_removed_is_not_readable_any_more(history: History) -> None:
    talk = history.begin("m", {})
    say(history, talk, "a secret of mine")
    history.remove(talk)
    history.close()
    assert all(b"secret" not in path.read_bytes() for path in history.path.parent.iterdir())


def test_a_reply_that_was_cut_short_is_there(history: History) -> None:
    talk = history.begin("m", {})
    asked = say(history, talk, "why?")
    (answer,) = history.add(talk, asked, Message("assistant"), is_open=True)
    history.append(answer, "hm ", thought=True)
    history.append(answer, "well", thought=True)
    history.append(answer, "Bec", thought=False)
    history.append(answer, "ause", thought=False)
    with History(history.path) as again:
        saved = again.messages(talk)[-1]
        assert (saved.message.content, saved.message.thinking, saved.open) == ("Because", "hm well", True)
        assert [found.id for _, found in (*again.search("because"), *again.search("M WELL"))] == [
            saved.id
        ] * 2
        assert again.search("mBec") == ()
        again.finish(saved.id, "Because", "hm well", {"used": 7})
        whole = again.messages(talk)[-1]
        assert (whole.message, whole.open, whole.details) == (saved.message, False, {"used": 7})


def test_search_knows_no_case_and_every_letter(history: History) -> None:
    talk = history.begin("m", {})
    say(history, talk, "Über 100% _sure_", "NEIN")
    assert [saved.message.content for _, saved in history.search("ÜBER")] == ["Über 100% _sure_"]
    assert history.search("100%_") == ()
    assert len(history.search("nein", limit=1)) == 1


def test_two_processes_write_at_once(history: History) -> None:
    with History(history.path) as other:
        first, second = history.begin("a", {}), other.begin("b", {})
        say(history, first, "one")
        say(other, second, "two")
        assert (texts(other, first), texts(history, second)) == (["one"], ["two"])


def test_a_file_that_is_no_database_is_told_and_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    path.write_bytes(b"not a database at all, but long enough for one")
    assert not is_database(path)
    with pytest.raises(HistoryError, match="not a database"):
        History(path)
    aside = set_aside(path)
    assert aside is not None
    assert aside.read_bytes().startswith(b"not a")
    assert is_database(path)
    History(path).close()
    assert is_database(path)


def test_a_file_with_torn_pages_is_told(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    with History(path) as history:
        talk = history.begin("m", {})
        say(history, talk, *["x" * 3000] * 20)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(HistoryError, match="malformed"), History(path) as history:
        history.list()


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError, match="cannot keep conversations"):
        History(tmp_path / "file" / "kept.db")


def test_what_is_no_text_is_refused_and_leaves_nothing(history: History) -> None:
    talk = history.begin("m", {})
    with pytest.raises(HistoryError, match="UTF-8"):
        history.add(talk, None, Message("user", "\udcff"))
    assert texts(history, talk) == []
    say(history, talk, "one")
    assert texts(history, talk) == ["one"]


def test_a_newer_file_is_left_alone(history: History) -> None:
    history.close()
    with closing(sqlite3.connect(history.path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(HistoryError, match="newer"):
        History(history.path)
