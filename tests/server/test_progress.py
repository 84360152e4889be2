"""Long work in a thread: its news line by line, its failure, and its end when nobody listens any more."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from mull.errors import Cancelled, MullError
from mull.server.progress import progress_response
from mull.server.stream import ClientLeft


def lines_of(work) -> list[dict]:
    async def run() -> list[dict]:
        response = await progress_response(work, stream=True)
        return [json.loads(line) async for line in response.body_iterator]

    return asyncio.run(run())


def whole(work) -> dict:
    async def run() -> dict:
        return json.loads((await progress_response(work, stream=False)).body)

    return asyncio.run(run())


def steps(*news, failure=None):
    def work(report):
        for line in news:
            report(line)
        if failure is not None:
            raise failure

    return work


def test_news_come_in_order():
    news = [{"n": n} for n in range(1000)]
    assert lines_of(steps(*news)) == news
    assert whole(steps(*news)) == {"n": 999}
    assert whole(steps()) == {}


def test_a_failure_is_raised_before_the_first_line_and_told_after_it():
    for form in (lines_of, whole):
        with pytest.raises(MullError, match="broke"):
            form(steps(failure=MullError("broke")))
    assert lines_of(steps({"n": 1}, failure=MullError("broke"))) == [{"n": 1}, {"error": "broke"}]
    with pytest.raises(MullError, match="broke"):
        whole(steps({"n": 1}, failure=MullError("broke")))


def test_a_bug_is_told_without_its_details(caplog):
    assert lines_of(steps({"n": 1}, failure=KeyError("secret"))) == [
        {"n": 1},
        {"error": "internal error: KeyError"},
    ]
    assert "a long request failed" in caplog.text


def test_who_leaves_ends_the_work():
    go_on, ended, left = threading.Event(), threading.Event(), threading.Event()

    def work(report):
        report({"n": 1})
        go_on.wait(30)
        try:
            report({"n": 2})
        except Cancelled:
            ended.set()
            raise

    async def run() -> None:
        response = await progress_response(work, stream=True, left=left.set)
        assert await anext(response.body_iterator) == b'{"n":1}\n'
        await response.body_iterator.aclose()
        go_on.set()

    asyncio.run(run())
    assert left.is_set()
    assert ended.wait(30)


def test_a_client_that_leaves_an_unstreamed_answer_stops_the_work() -> None:
    left, seen = threading.Event(), threading.Event()

    def work(report):
        report({"n": 1})
        seen.set()
        assert left.wait(30)
        report({"n": 2})

    async def receive():
        await asyncio.to_thread(seen.wait, 30)
        return {"type": "http.disconnect"}

    async def run() -> None:
        with pytest.raises(ClientLeft):
            await progress_response(work, stream=False, left=left.set, receive=receive)

    asyncio.run(run())
    assert left.is_set()
