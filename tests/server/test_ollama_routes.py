"""Ollama's endpoints over scripted models: what they answer, what they refuse, what they make."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from fake_llm import FakeLLM
from mull.chat.stream import (
    Text,
)
from mull.errors import ContextExceeded, MullError, NotSupported, RemoteError
from mull.registry.bundled import POCKET
from mull.registry.events import Event
from mull.registry.manifest import digest_of
from starlette.testclient import TestClient

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def ask(fake_app):
    """Return what asks an application over scripted models: ask(fakes…) is a client."""
    with_ends = []

    def make(*fakes: FakeLLM) -> TestClient:
        client = TestClient(fake_app(*fakes), base_url="http://localhost:11434")
        with_ends.append(client)
        return client.__enter__()

    yield make
    for client in with_ends:
        client.__exit__(None, None, None)


def test_who_is_there(ask):
    client = ask()
    assert client.get("/").text == "Ollama is running"
    assert [client.head(path).status_code for path in ("/", "/api/version", "/api/tags")] == [200] * 3
    assert set(client.get("/api/version").json()) == {"version"}


def test_a_chat_is_streamed_unless_it_is_not_to_be(ask):
    fake = FakeLLM()
    client = ask(fake)
    body = {"model": "pocket", "messages": HI, "options": {"num_gpu": 1}}
    # As curl sends it.
    response = client.post(
        "/api/chat",
        content=json.dumps(body),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["x-mull-ignored"] == "options.num_gpu"
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == "answer"
    assert lines[-1]["done"]
    whole = client.post("/api/chat", json={**body, "stream": False}).json()
    assert (whole["message"]["content"], whole["message"]["thinking"]) == ("answer", "so")
    assert [request.messages[0].content for request in fake.requests] == ["hi", "hi"]


def test_an_error_after_the_first_byte_is_a_line(ask):
    client = ask(FakeLLM([Text("an"), MullError("broke")]))
    response = client.post("/api/chat", json={"model": "pocket", "messages": HI})
    assert response.status_code == 200
    assert json.loads(response.text.splitlines()[-1]) == {"error": "broke"}


def test_an_error_of_a_whole_reply_is_a_status(ask):
    client = ask(FakeLLM([Text("an"), MullError("broke")]))
    response = client.post("/api/chat", json={"model": "pocket", "messages": HI, "stream": False})
    assert (response.status_code, response.json()) == (500, {"error": "broke"})


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (NotSupported("no", field="think"), 400, '"pocket" does not support thinking'),
        (
            NotSupported("no", field="tools"),
            400,
            "registry.ollama.ai/library/pocket:latest does not support tools",
        ),
        (ContextExceeded("the prompt is long"), 400, "the prompt is long"),
    ],
)
def test_what_a_model_cannot_do_is_said_in_ollamas_words(ask, failure, status, text):
    client = ask(FakeLLM([failure]))
    response = client.post("/api/chat", json={"model": "pocket", "messages": HI, "think": True})
    assert (response.status_code, response.json()) == (status, {"error": text})


def test_without_a_prompt_the_model_is_loaded_and_unloaded(ask):
    fake = FakeLLM()
    client = ask(fake)
    loaded = client.post("/api/generate", json={"model": "pocket"}).json()
    assert (loaded["response"], loaded["done"], loaded["done_reason"]) == ("", True, "load")
    [line] = client.get("/api/ps").json()["models"]
    assert (line["name"], line["size"], line["size_vram"], line["context_length"]) == (
        "pocket:latest",
        5_000_000,
        0,
        2048,
    )
    unloaded = client.post("/api/chat", json={"model": "pocket", "messages": [], "keep_alive": 0}).json()
    assert (unloaded["message"], unloaded["done_reason"]) == ({"role": "assistant", "content": ""}, "unload")
    assert client.get("/api/ps").json() == {"models": []}
    assert fake.is_closed
    assert fake.requests == []


def test_a_longer_context_than_the_models_is_cut_and_that_is_told(ask):
    client = ask(FakeLLM())
    body = {"model": "pocket", "messages": HI, "options": {"num_ctx": 100_000}, "stream": False}
    response = client.post("/api/chat", json=body)
    assert (
        response.headers["x-mull-note"] == "num_ctx 100000 is more than the model's own, 2048, which is taken"
    )


def test_a_suffix_needs_a_model_that_fills_gaps(ask):
    knows, does_not = FakeLLM(), FakeLLM()
    knows.tokenizer = SimpleNamespace(token_id=lambda text: 1)
    does_not.tokenizer = SimpleNamespace(token_id=lambda text: None)
    body = {"model": "pocket", "prompt": "def f():", "suffix": "return 1", "stream": False}
    refused = ask(does_not).post("/api/generate", json=body)
    assert (refused.status_code, refused.json()["error"]) == (
        400,
        "registry.ollama.ai/library/pocket:latest does not support insert",
    )
    assert ask(knows).post("/api/generate", json=body).json()["response"] == "answer"
    assert knows.requests[0].raw == "<|fim_prefix|>def f():<|fim_suffix|>return 1<|fim_middle|>"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", "/api/chat", {"model": "nope", "messages": HI}, 404, "model 'nope' not found"),
        ("POST", "/api/generate", {"model": "nope", "prompt": "x"}, 404, "model 'nope' not found"),
        ("POST", "/api/generate", {"model": "nope", "keep_alive": 0}, 404, "model 'nope' not found"),
        ("POST", "/api/show", {"model": "nope"}, 404, "model 'nope' not found"),
        ("POST", "/api/show", {"model": "/etc/passwd"}, 400, "invalid model name"),
        ("POST", "/api/chat", {"model": "/etc/passwd", "messages": HI}, 400, "invalid model name"),
        ("POST", "/api/generate", {"model": "../x.gguf", "prompt": "x"}, 400, "invalid model name"),
        ("POST", "/api/show", {}, 400, "model is required"),
        ("DELETE", "/api/delete", {"model": "nope"}, 404, "model 'nope' not found"),
        ("DELETE", "/api/delete", {"model": "a b"}, 400, 'name "a b" is invalid'),
        ("POST", "/api/copy", {"source": "nope", "destination": "b"}, 404, 'model "nope" not found'),
        ("POST", "/api/copy", {"source": "pocket", "destination": "a b"}, 400, 'destination "a b" is invalid'),
        ("POST", "/api/copy", {"source": "a b", "destination": "b"}, 400, 'source "a b" is invalid'),
        ("POST", "/api/embed", {"model": "pocket", "input": "x"}, 501, "embeddings are not implemented yet"),
        ("POST", "/api/embeddings", {"model": "pocket", "prompt": "x"}, 501, "embeddings are not implemented yet"),
        ("POST", "/api/create", {"model": "x", "from": "nope", "stream": False}, 404, "model 'nope:latest' not found"),
        ("POST", "/api/create", {"model": "x", "from": "pocket", "quantize": "Q9"}, 400, "unsupported quantization"),
        ("POST", "/api/create", {"model": "x", "from": "pocket", "quantize": "Q4_0"}, 400, "only supported for F16"),
        ("POST", "/api/create", {"model": "x", "files": {"a.gguf": "sha256:" + "b" * 64}}, 400, "was not uploaded"),
    ],
)  # fmt: skip
def test_refusals(ask, method, path, body, status, text):
    response = ask().request(method, path, json=body)
    assert response.status_code == status
    assert response.json()["error"].startswith(text) or text in response.json()["error"]


def test_models_are_made_copied_shown_and_removed(ask):
    client = ask()
    body = {
        "model": "made",
        "from": "pocket",
        "system": "Be brief.",
        "parameters": {"temperature": 0.5, "stop": ["a"]},
    }
    lines = [json.loads(line)["status"] for line in client.post("/api/create", json=body).text.splitlines()]
    assert lines[-2:] == ["writing manifest", "success"]
    assert any(line.startswith("using existing layer sha256:") for line in lines)
    assert client.post("/api/copy", json={"source": "made", "destination": "copied"}).status_code == 200
    shown = client.post("/api/show", json={"model": "copied"}).json()
    assert shown["system"] == "Be brief."
    assert shown["parameters"].splitlines() == [f'{"stop":<30} "a"', f"{'temperature':<30} 0.5"]
    assert shown["details"]["family"] == "qwen3"
    assert shown["capabilities"][0] == "completion"
    assert shown["model_info"]["general.architecture"] == "qwen3"
    assert shown["model_info"]["qwen3.context_length"] == 2048
    assert shown["model_info"]["tokenizer.ggml.tokens"] is None
    verbose = client.post("/api/show", json={"model": "copied", "verbose": True, "system": "Other."}).json()
    assert len(verbose["model_info"]["tokenizer.ggml.tokens"]) > 100
    assert verbose["tensors"][0]["shape"]
    assert verbose["system"] == "Other."
    names = {line["name"] for line in client.get("/api/tags").json()["models"]}
    assert {"made:latest", "copied:latest", "pocket:latest"} <= names
    for name in ("made", "copied"):
        assert client.request("DELETE", "/api/delete", json={"model": name}).status_code == 200
    names = {line["name"] for line in client.get("/api/tags").json()["models"]}
    assert not {"made:latest", "copied:latest"} & names


def test_a_model_that_is_removed_leaves_memory(ask):
    fake = FakeLLM()
    client = ask(fake)
    client.post("/api/copy", json={"source": "pocket", "destination": "gone"})
    client.post("/api/generate", json={"model": "gone", "keep_alive": -1})
    [line] = client.get("/api/ps").json()["models"]
    assert line["expires_at"] > "2300"
    client.request("DELETE", "/api/delete", json={"model": "gone"})
    assert client.get("/api/ps").json() == {"models": []}


def test_a_model_from_an_uploaded_file(ask):
    client = ask()
    other = POCKET.path.read_bytes() + b"\0" * 32  # the bundled file's own digest is there already
    digest = digest_of(other)
    assert client.head(f"/api/blobs/{digest}").status_code == 404
    wrong = client.post(f"/api/blobs/{digest}", content=b"x")
    assert wrong.status_code == 400
    assert wrong.json()["error"].startswith(f'digest mismatch, expected "{digest}", got "sha256:')
    assert client.post(f"/api/blobs/{digest}", content=other).status_code == 201
    assert client.head(f"/api/blobs/{digest}").status_code == 200
    assert client.post(f"/api/blobs/{digest}", content=other).status_code == 200
    made = client.post("/api/create", json={"model": "up", "files": {"up.gguf": digest}, "stream": False})
    assert made.json() == {"status": "success"}
    assert client.post("/api/show", json={"model": "up"}).json()["details"]["format"] == "gguf"
    client.request("DELETE", "/api/delete", json={"model": "up"})
    assert client.head(f"/api/blobs/{digest}").status_code == 404
    for bad in ("sha256:1", "md5:" + "a" * 64):
        assert client.post(f"/api/blobs/{bad}", content=b"x").status_code == 400


def test_a_pull_tells_its_steps(ask, monkeypatch):
    asked = []

    def pull(name, options, *, store, report, cancelled):
        asked.append((name, options.insecure))
        report(Event("pulling manifest"))
        report(Event("pulling aaaaaaaaaaaa", "progress", digest="sha256:aa", total=10, completed=5))
        if name == "broken":
            raise RemoteError("no such model")
        report(Event("success"))

    monkeypatch.setattr("mull.registry.pull.pull", pull)
    client = ask()
    lines = client.post("/api/pull", json={"name": "tiny", "insecure": True}).text.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"status": "pulling manifest"},
        {"status": "pulling aaaaaaaaaaaa", "digest": "sha256:aa", "total": 10, "completed": 5},
        {"status": "success"},
    ]
    assert asked == [("tiny", True)]
    assert client.post("/api/pull", json={"model": "tiny", "stream": False}).json() == {"status": "success"}
    late = client.post("/api/pull", json={"model": "broken"})
    assert (late.status_code, json.loads(late.text.splitlines()[-1])) == (200, {"error": "no such model"})
    whole = client.post("/api/pull", json={"model": "broken", "stream": False})
    assert (whole.status_code, whole.json()) == (502, {"error": "no such model"})
    own = client.post("/api/pull", json={"model": "/etc/model.gguf"})
    assert own.status_code == 400


def test_a_push_needs_a_registry(ask):
    refused = ask().post("/api/push", json={"model": "pocket"})
    assert (refused.status_code, "registry" in refused.json()["error"]) == (400, True)
    assert ask().post("/api/push", json={"model": "nope"}).status_code == 404
