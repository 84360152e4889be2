"""What a server says of itself: its health, its counters, a line for each request."""

from __future__ import annotations

import logging
import re

import pytest
from fake_llm import FakeLLM
from mull.chat.stream import Done, Reasoning, Text, Thinking, Usage
from mull.errors import MullError
from mull.runtime.thinking.plan import ThinkingReport
from starlette.testclient import TestClient

LOCAL = "http://127.0.0.1:11434"
BODY = {"model": "pocket", "request": {"messages": [{"role": "user", "content": "hi"}]}}
USAGE = Usage(
    prompt_tokens=26,
    cached_tokens=16,
    thinking_tokens=25,
    completion_tokens=40,
    drafted_tokens=8,
    accepted_tokens=6,
)
REPORT = ThinkingReport(25, 100, None, 0, "natural", 0, 0, 0, 0, 1.0)


class Told(FakeLLM):
    """Ends its replies as the test says."""

    def chat(self, request):
        yield Reasoning("so")
        yield Text("a\n")
        yield Done(USAGE, "stop", (), 0, Thinking(REPORT))


@pytest.fixture
def client(fake_app):
    with TestClient(fake_app(Told()), base_url=LOCAL, raise_server_exceptions=False) as client:
        yield client


def values(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_replies_are_counted(client: TestClient):
    for _ in range(2):
        client.post("/mull/chat", json=BODY)
    found = values(client)
    of_pocket = '{model="pocket:latest"}'
    expected = {
        "prompt": 52,
        "cached": 32,
        "generated": 80,
        "thinking": 50,
        "thinking_budget": 200,
        "drafted": 16,
        "accepted": 12,
    }
    for name, value in expected.items():
        assert found[f"mull_{name}_tokens_total{of_pocket}"] == value
    assert found['mull_replies_total{model="pocket:latest",reason="stop"}'] == 2
    assert found['mull_thinking_budget_used_bucket{le="0.25",model="pocket:latest"}'] == 2
    assert found['mull_thinking_budget_used_bucket{le="0.1",model="pocket:latest"}'] == 0
    assert found[f"mull_time_to_first_token_seconds_count{of_pocket}"] == 2
    assert found[f"mull_model_context_tokens{of_pocket}"] == 2048
    assert (found["mull_models_loaded"], found["mull_requests_running"], found["mull_requests_waiting"]) == (
        1,
        0,
        0,
    )
    assert found['mull_requests_total{method="POST",path="/mull/chat",status="200"}'] == 2


def test_paths_and_methods_that_nobody_knows_make_no_names_of_their_own(client: TestClient):
    for index in range(5):
        client.request("BREW" if index else "GET", f"/pot/{index}")
    found = values(client)
    assert found['mull_requests_total{method="other",path="other",status="404"}'] == 4
    assert not any("/pot/" in name for name in found)


def test_a_reply_that_fails_is_counted_as_an_error(fake_app):
    with TestClient(fake_app(FakeLLM([Text("a"), MullError("broke")])), base_url=LOCAL) as client:
        client.post("/mull/chat", json=BODY)
        assert values(client)['mull_replies_total{model="pocket:latest",reason="error"}'] == 1


def test_a_bug_is_counted_as_one(fake_app):
    app = fake_app(FakeLLM([ZeroDivisionError("oops")]))
    with TestClient(app, base_url=LOCAL, raise_server_exceptions=False) as client:
        assert client.post("/mull/chat", json=BODY).status_code == 500
        assert values(client)['mull_requests_total{method="POST",path="/mull/chat",status="500"}'] == 1


def test_each_request_leaves_a_line_in_the_log(client: TestClient, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "mull.access"):
        client.get("/health")  # asked all the time: not told
        client.post("/mull/chat", json=BODY)
        client.get("/no/such%0Aline")
    first, second = (record.getMessage() for record in caplog.records)
    assert re.fullmatch(
        r"POST /mull/chat 200 [0-9.]+s model=pocket:latest prompt=26 cached=16 tokens=40 thinking=25/100 end=stop "
        r"first=[0-9.]+s",
        first,
    )
    assert "\n" not in second
    assert " 404 " in second


def test_health_tells_what_is_loaded(client: TestClient):
    assert client.get("/health").json() == {"status": "ok", "models": 0, "running": 0}
    client.post("/mull/chat", json=BODY)
    assert client.get("/v1/health").json()["models"] == 1
