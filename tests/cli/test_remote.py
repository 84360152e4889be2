"""`llm run`, `ps` and `stop` with a running server: the same answers, and nothing of it where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_llm import FakeLLM
from live_server import Live, serving
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Event, Progress, Text, Usage
from mull.cli.connection import NoServer, Server, configured_server, running_server
from mull.cli.main import run_command
from mull.cli.options import LoadFlags
from mull.cli.remote import open_remote
from mull.errors import ContextExceeded, MullError
from mull.registry.target import find_target
from mull.server.address import Address
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool
from mull.settings import load_settings

ENV = {"HOME": "/nowhere"}


class Told(FakeLLM):
    """A scripted model that says what a server tells of a model."""

    def __init__(self, *replies: list) -> None:
        super().__init__(*replies)
        self.family = type("Family", (), {"can_think": True})()
        self.notes = ["take care"]

    def measure(self, request) -> tuple[int, int | None]:
        return len(request.messages), None


@pytest.fixture
def model() -> Told:
    return Told()


@pytest.fixture
def server(model: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Live]:
    """A server with one scripted model under the name of the bundled one, which commands find."""
    monkeypatch.setenv("MULL_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("mull.cli.connection._PROBE", 60.0)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    pool = ModelPool(ServerOptions(), load_settings(), opener=lambda *args: model)
    with serving(pool.options, load_settings(), pool) as live:
        monkeypatch.setenv("MULL_HOST", f"127.0.0.1:{live.port}")
        yield live


def test_run_uses_a_running_server(server: Live, model: Told, capsys):
    assert run_command(["run", "pocket", "--temperature", "0.5", "-n", "9", "How?"]) == 0
    out, err = capsys.readouterr()
    assert (out, "so" in err, "note: take care" in err) == ("answer\n", True, True)
    (request,) = model.requests
    assert request.messages[-1].content == "How?"
    assert request.options == {"temperature": 0.5, "num_predict": 9}


def test_run_says_who_computes(server: Live, capsys):
    assert run_command(["run", "pocket", "--verbose", "How?"]) == 0
    assert (
        f"backend cpu float32 (fake), by the server at http://127.0.0.1:{server.port}"
        in capsys.readouterr().err
    )


def test_what_a_server_cannot_do_is_done_here(server: Live, model: Told, monkeypatch: pytest.MonkeyPatch):
    target = find_target("pocket")
    settings = load_settings()
    assert open_remote("pocket", LoadFlags(), target, settings, None) is not None
    assert open_remote("pocket", LoadFlags(num_ctx=500), target, settings, 500) is not None
    for flags in (
        LoadFlags(threads=1),
        LoadFlags(quantize="nf4"),
        LoadFlags(dtype="f32"),
        LoadFlags(draft="x"),
    ):
        assert open_remote("pocket", flags, target, settings, None) is None
    monkeypatch.setenv("MULL_THINK_MAX", "5")
    assert open_remote("pocket", LoadFlags(), target, load_settings(), None) is None


def test_another_version_of_the_model_is_not_taken(server: Live, model: Told):
    target = find_target("pocket")
    other = replace(target, entry=replace(target.entry, digest="sha256:" + "0" * 64))
    assert open_remote("pocket", LoadFlags(), other, load_settings(), None) is None


def test_errors_come_through_with_their_hints(server: Live, model: Told, capsys):
    model._replies = [[ContextExceeded("too long by 9", hint="shorten it")]]
    assert run_command(["run", "pocket", "How?"]) == 1
    assert capsys.readouterr().err.endswith("error: too long by 9\nhint: shorten it\n")


def test_an_error_in_midst_of_a_reply_comes_after_what_was_said(server: Live, model: Told, capsys):
    model._replies = [[Text("half"), MullError("it broke")]]
    assert run_command(["run", "pocket", "How?"]) == 1
    out, err = capsys.readouterr()
    assert out.strip() == "half"
    assert "error: it broke" in err


def test_a_server_that_dies_in_midst_of_a_reply_is_told_of(server: Live, monkeypatch: pytest.MonkeyPatch):
    model = open_remote("pocket", LoadFlags(), find_target("pocket"), load_settings(), None)
    assert model is not None
    with socket.create_server(("127.0.0.1", 0)) as dying:

        def answer() -> None:
            connection, _ = dying.accept()
            with connection:
                asked = b""
                while not (
                    found := re.search(rb"content-length: (\d+)\r\n(?s:.*?)\r\n\r\n", asked.lower())
                ) or (len(asked) < found.end() + int(found[1])):  # what is not read makes a reset of its end
                    asked += connection.recv(1 << 16)
                line = b'{"Text": {"text": "half"}}\n'
                head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                connection.sendall(head + b"%x\r\n%s\r\n" % (len(line), line))

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setattr(model, "_server", Server(Address("127.0.0.1", dying.getsockname()[1])))
        events = model.chat(ChatRequest((Message("user", "How?"),)))
        assert next(events) == Text("half")
        with pytest.raises(NoServer, match="in the middle of the answer"):
            next(events)
        thread.join()


def test_closing_a_reply_stops_it_on_the_server(server: Live, model: Told):
    stopped = threading.Event()

    def chat(request: ChatRequest) -> Iterator[Event]:
        yield Progress(1, 1)
        assert stopped.wait(200)
        yield Done(Usage(), "cancelled", (), 0)

    model.chat = chat
    model.abort = lambda request_id: stopped.set()
    llm = open_remote("pocket", LoadFlags(), find_target("pocket"), load_settings(), None)
    events = llm.chat(ChatRequest((Message("user", "How?"),)))
    assert next(events) == Progress(1, 1)
    assert server.pool.running == 1
    events.close()
    assert stopped.wait(200)
    server.on_loop(drained(server))
    llm.chat(ChatRequest((Message("user", "How?"),))).close()  # before its first event


def test_a_reply_can_be_told_to_answer_or_end(server: Live, model: Told):
    llm = open_remote("pocket", LoadFlags(), find_target("pocket"), load_settings(), None)
    llm.end_thinking("abc")
    llm.abort("abc")
    assert (model.ended_thinking, model.aborted) == (["abc"], ["abc"])
    assert llm.measure(ChatRequest((Message("user", "How?"),))) == (1, None)
    assert (llm.context_length, llm.family.can_think, llm.notes) == (2048, True, ["take care"])
    assert llm.defaults == model.defaults
    assert llm.tokenizer.encode("hi")


def test_ps_and_stop(server: Live, model: Told, capsys):
    assert run_command(["ps"]) == 0
    assert capsys.readouterr().out.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    run_command(["run", "-q", "pocket", "How?"])
    capsys.readouterr()
    assert run_command(["ps"]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[0] == "pocket:latest"
    assert "100% CPU" in line
    assert line.endswith("from now")
    assert run_command(["ps", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["context_length"] == 2048
    assert run_command(["ps", "qwen"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert run_command(["stop", "POCKET"]) == 0
    assert run_command(["stop", "pocket"]) == 1
    assert capsys.readouterr().err == "error: model 'pocket' is not in the server's memory\nhint: llm ps\n"
    assert model.is_closed


def test_without_a_server_ps_and_stop_say_so(capsys):
    for command in (["ps"], ["stop", "pocket"]):
        assert run_command(command) == 1
        said = capsys.readouterr().err
        assert said.startswith(
            "error: no server answers at http://127.0.0.1:9: connection refused\nhint: llm serve"
        )


def test_where_the_server_is_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MULL_HOST", "0.0.0.0:99")
    monkeypatch.setenv("MULL_API_KEY", "k, other")
    assert configured_server() == Server(Address("0.0.0.0", 99), None, "k")
    assert configured_server().is_local
    monkeypatch.setenv("MULL_HOST", "example.com")
    assert not configured_server().is_local
    assert running_server() is None
    monkeypatch.setenv("MULL_SOCKET", "/no/such.sock")
    assert configured_server().is_local
    with pytest.raises(NoServer, match=r"at /no/such\.sock"):
        configured_server().ask("GET", "/health")


def test_somebody_elses_server_is_left_alone(monkeypatch: pytest.MonkeyPatch, httpserver):
    httpserver.expect_request("/mull/server").respond_with_data("Not Found", status=404)
    monkeypatch.setenv("MULL_HOST", f"127.0.0.1:{httpserver.port}")
    assert running_server() is None


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        monkeypatch.setenv("MULL_HOST", f"127.0.0.1:{silent.getsockname()[1]}")
        assert running_server() is None


async def drained(server: Live) -> None:
    while server.pool.running:
        await asyncio.sleep(0.001)
