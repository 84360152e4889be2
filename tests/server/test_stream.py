"""Replies on the wire: before, during and after; clients that leave; with scripted models."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from fake_llm import FakeLLM
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Event, Progress, Text, Usage
from mull.errors import ContextExceeded, MullError
from mull.server.stream import to_json
from starlette.testclient import TestClient

BODY = {"model": "pocket", "request": {"messages": [{"role": "user", "content": "hi"}]}}
LOCAL = "http://127.0.0.1:11434"


class Patient(FakeLLM):
    """Says a word at a time until it is stopped; `released` lets it go on."""

    def __init__(self, words: int = 10_000) -> None:
        super().__init__()
        self.words = words
        self.go_on = threading.Semaphore(0)
        self.stopped = threading.Event()
        self.began = threading.Event()

    def abort(self, request_id: str) -> None:
        super().abort(request_id)
        self.stopped.set()
        self.go_on.release()

    def chat(self, request: ChatRequest) -> Iterator[Event]:
        self.requests.append(request)
        self.began.set()
        yield Progress(1, 1)
        for _ in range(self.words):
            yield Text("word ")
            assert self.go_on.acquire(timeout=200)
            if self.stopped.is_set():
                yield Done(Usage(), "cancelled", (), 0)
                return
        yield Done(Usage(), "stop", (), 0)


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_what_is_wrong_before_the_first_event_has_its_status(fake_app):
    model = FakeLLM([ContextExceeded("the prompt is 9 too long", hint="shorten it")])
    with TestClient(fake_app(model), base_url=LOCAL) as client:
        answer = client.post("/mull/chat", json=BODY)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "kind": "ContextExceeded",
        "message": "the prompt is 9 too long",
        "hint": "shorten it",
        "status": 400,
    }


@pytest.mark.parametrize(
    ("failure", "told"),
    [(MullError("it broke"), "it broke"), (ZeroDivisionError("oops"), "internal error: ZeroDivisionError")],
)
def test_what_goes_wrong_later_is_told_in_the_stream(fake_app, failure: Exception, told: str, caplog):
    with TestClient(fake_app(FakeLLM([Text("a"), failure])), base_url=LOCAL) as client:
        answer = client.post("/mull/chat", json=BODY)
        assert answer.status_code == 200
        assert lines(answer.text)[0] == {"Text": {"text": "a"}}
        assert lines(answer.text)[-1]["error"]["message"] == told
        assert client.get("/health").json()["running"] == 0


def test_a_bug_before_the_first_event_is_told_without_its_text(fake_app):
    model = FakeLLM([ZeroDivisionError("secret")])
    with TestClient(fake_app(model), base_url=LOCAL, raise_server_exceptions=False) as client:
        answer = client.post("/mull/chat", json=BODY)
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "internal error: ZeroDivisionError"


def test_half_of_a_surrogate_pair_stays_json():
    assert json.loads(to_json({"a": "x\ud83dy\u2028"})) == {"a": "x\ud83dy\u2028"}


def post(body: dict, path: str = "/mull/chat") -> bytes:
    data = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    ).encode() + data


def test_a_client_that_vanishes_gives_its_turn_back(serve, fake_pool):
    model = Patient()
    live = serve(pool=fake_pool(model, parallel=1))

    async def run() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(post(BODY))
        await reader.readuntil(b"word")
        _, waiting = await asyncio.open_connection("127.0.0.1", live.port)
        waiting.write(post(BODY))
        while live.pool.waiting != 1:
            await asyncio.sleep(0.001)
        waiting.close()  # one that vanishes in the queue leaves it
        while live.pool.waiting:
            await asyncio.sleep(0.001)
        writer.close()
        while live.pool.running:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(run(), 100))
    assert len(model.aborted) == 1
    assert len(model.requests) == 1


def test_a_client_that_reads_nothing_holds_no_turn(serve, fake_pool):
    model = Patient(words=3)
    model.words, model.chunk = 3, "x" * 2_000_000

    def chat(request: ChatRequest) -> Iterator[Event]:
        for _ in range(20):
            yield Text(model.chunk)
        yield Done(Usage(), "stop", (), 0)

    model.chat = chat
    live = serve(pool=fake_pool(model, parallel=1))

    async def run() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port, limit=1 << 10)
        writer.write(post(BODY))
        await reader.readuntil(b"Text")  # and no more
        while live.pool.running:
            await asyncio.sleep(0.001)
        size = 0
        while data := await reader.read(1 << 20):  # all of it is still there for it
            size += len(data)
            if data.endswith(b"0\r\n\r\n"):
                break
        writer.close()
        return size

    assert asyncio.run(asyncio.wait_for(run(), 100)) > 40_000_000


def test_requests_beyond_the_queue_get_503_in_their_dialects_words(serve, fake_pool):
    model = Patient()
    live = serve(pool=fake_pool(model, parallel=1, max_queue=1))

    async def run() -> bytes:
        writers = []
        for waiting in (0, 1):
            _, writer = await asyncio.open_connection("127.0.0.1", live.port)
            writer.write(post(BODY))
            writers.append(writer)
            while live.pool.running != 1 or live.pool.waiting != waiting:
                await asyncio.sleep(0.001)
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        body = {"model": "pocket", "messages": [{"role": "user", "content": "hi"}]}
        writer.write(post(body, "/api/chat"))
        head = await reader.readuntil(b"\r\n\r\n")
        text = await reader.read(1000)
        for each in (*writers, writer):
            each.close()
        while live.pool.running or live.pool.waiting:
            await asyncio.sleep(0.001)
        return head + text

    answer = asyncio.run(asyncio.wait_for(run(), 100))
    assert b"503 Service Unavailable" in answer
    assert b"retry-after" in answer.lower()
    assert b"server busy, please try again.  maximum pending requests exceeded" in answer


def test_five_hundred_connections_at_once_are_all_answered(serve, fake_pool):
    live = serve(pool=fake_pool(FakeLLM(), parallel=4, max_queue=512))

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(post(BODY).replace(b"Host:", b"Connection: close\r\nHost:"))
        answer = await reader.read()
        writer.close()
        return answer

    async def run() -> list[bytes]:
        return await asyncio.gather(*(ask() for _ in range(500)))

    answers = asyncio.run(asyncio.wait_for(run(), 250))
    assert sum(b"200 OK" in answer and b'"Done"' in answer for answer in answers) == 500
    assert (live.pool.running, live.pool.waiting) == (0, 0)


def test_messages_are_read_back_as_they_were_sent(fake_app):
    model = FakeLLM()
    with TestClient(fake_app(model), base_url=LOCAL) as client:
        client.post("/mull/chat", json=BODY)
    assert model.requests[0].messages == (Message("user", "hi"),)


def test_a_completion_that_waits_for_its_turn_lets_its_model_go(serve, fake_pool):
    busy, larger = Patient(), FakeLLM()
    larger.context_length = 4096
    busy.tokenizer = larger.tokenizer = SimpleNamespace(
        encode=lambda text: [], token_text=str, token_bytes=str.encode
    )
    live = serve(pool=fake_pool(busy, larger, parallel=1))

    async def run() -> bytes:
        reader, first = await asyncio.open_connection("127.0.0.1", live.port)
        first.write(post(BODY))
        await reader.readuntil(b"word")
        reader, second = await asyncio.open_connection("127.0.0.1", live.port)
        second.write(post({"model": "pocket", "prompt": "hi"}, "/completion"))
        while live.pool.waiting != 1:
            await asyncio.sleep(0.001)
        lease = asyncio.run_coroutine_threadsafe(live.pool.lease("pocket", num_ctx=4096), live.loop)
        while not live.pool.loaded[0].is_leaving:
            await asyncio.sleep(0.001)
        first.close()
        (await asyncio.wrap_future(lease)).release()
        answer = await reader.readuntil(b"\r\n\r\n")
        second.close()
        return answer

    assert b"200 OK" in asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize(
    ("path", "pings"), [("/v1/chat/completions", True), ("/v1/messages", True), ("/api/chat", False)]
)
def test_a_silent_stream_of_server_sent_events_pings(serve, fake_pool, monkeypatch, path: str, pings: bool):
    monkeypatch.setattr("mull.server.stream.SILENT", 0.001)
    model, go_on = FakeLLM(), threading.Event()

    def chat(request: ChatRequest) -> Iterator[Event]:
        yield Progress(1, 3)
        assert go_on.wait(200)
        yield Text("a")
        yield Done(Usage(), "stop", (), 0)

    model.chat = chat
    live = serve(pool=fake_pool(model))
    body = {
        "model": "pocket",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": 9,
    }

    async def run() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(post(body, path))
        text = await reader.readuntil(b": ping\n\n" if pings else b"\r\n\r\n")
        go_on.set()
        text += await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()
        return text

    text = asyncio.run(asyncio.wait_for(run(), 60))
    assert (b"\r\n: ping\n\n\r\n" in text) is pings
    assert text.count(b'"a"') == 1
