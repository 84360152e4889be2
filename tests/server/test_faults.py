"""Bad input and hard times on a live server: each dialect says what is wrong, the server lives, memory returns."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from mull.kernels.cpu import native
from mull.models.pocket import model_path
from mull.registry.create import Details, create
from mull.registry.modelfile import Modelfile
from mull.registry.store import Store
from mull.runtime.load_options import LoadOptions
from mull.server.options import ServerOptions
from mull.settings import load_settings

HI = [{"role": "user", "content": "What is 3 + 4?"}]
# For each path: what a good request holds besides the model, and where its options go.
PATHS = {
    "/api/chat": ({"messages": HI, "stream": False}, "options"),
    "/api/generate": ({"prompt": "hi", "stream": False}, "options"),
    "/v1/chat/completions": ({"messages": HI}, None),
    "/v1/completions": ({"prompt": "hi", "max_tokens": 5}, None),
    "/v1/responses": ({"input": "What is 3 + 4?"}, None),
    "/v1/messages": ({"messages": HI, "max_tokens": 200}, None),
    "/completion": ({"prompt": "hi", "n_predict": 5}, None),
    "/mull/chat": ({"request": {"messages": HI}}, None),
}
BROKEN = {
    "nothing": b"",
    "half": b'{"model": "pocket"',
    "list": b"[]",
    "null": b"null",
    "text": b'"pocket"',
    "number": b"12",
    "not utf-8": b'{"model": "\xff\xfe"}',
    "deep": b'{"model": "pocket", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no fields": b"{}",
    "model is a number": b'{"model": 5}',
    "model is a list": b'{"model": ["pocket"], "messages": []}',
    "messages is a text": b'{"model": "pocket", "messages": "hi", "prompt": 5, "input": 5, "request": 5}',
    "message is a text": b'{"model": "pocket", "messages": ["hi"], "prompt": {}, "input": {}, "request": []}',
    "wrong role": b'{"model": "pocket", "messages": [{"role": "boss", "content": "x"}], "prompt": 1, "input": 1}',
    "long number": b'{"model": "pocket", "seed": ' + b"9" * 10_000 + b"}",
}


@pytest.fixture(scope="module")
def client(live):
    with httpx.Client(base_url=live.base_url, timeout=60) as client:
        yield client


def message_of(path: str, answer: httpx.Response) -> str:
    """Return the text of an error, from where the dialect of a path has it."""
    body = answer.json()
    if path.startswith("/api/"):
        assert isinstance(body["error"], str)
        return body["error"]
    if path == "/v1/messages":
        assert body["type"] == "error"
    assert isinstance(body["error"]["message"], str)
    return body["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_request_is_refused_in_the_dialects_words(client: httpx.Client, path: str, body: bytes):
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert message_of(path, answer)


@pytest.mark.parametrize("path", PATHS)
def test_a_compressed_body_is_refused_as_such(client: httpx.Client, path: str):
    answer = client.post(path, content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert "gzip" in message_of(path, answer)


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_method_is_the_clients_error(client: httpx.Client, path: str):
    answer = client.get(path)
    assert answer.status_code == 405
    assert message_of(path, answer)
    assert answer.headers["allow"] == "POST"
    if path == "/v1/messages":
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_requests_do_not_learn_which_files_there_are(client: httpx.Client, tmp_path: Path):
    there, missing = tmp_path / "there.gguf", tmp_path / "missing.gguf"
    there.write_bytes(b"GGUF")
    answers = [client.get("/props", params={"model": str(path)}) for path in (there, missing)]
    assert [answer.status_code for answer in answers] == [404, 404]
    first, second = (message_of("/props", answer) for answer in answers)
    assert first.replace("there", "") == second.replace("missing", "")


@pytest.mark.parametrize("path", PATHS)
def test_an_unknown_model_is_not_found(client: httpx.Client, path: str):
    answer = client.post(path, json={"model": "no-such-model", **PATHS[path][0]})
    assert answer.status_code == 404
    assert "no-such-model" in message_of(path, answer)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", '"hot"', "[]", "{}", "-1"])
def test_a_temperature_that_is_none_is_refused(client: httpx.Client, path: str, value: str):
    fields, inside = PATHS[path]
    text = json.dumps({"model": "pocket", **fields})
    added = f'"temperature": {value}'
    if path == "/mull/chat":
        text = text.replace('{"messages"', f'{{"options": {{{added}}}, "messages"')
    else:
        text = text[:-1] + ", " + (f'"{inside}": {{{added}}}' if inside else added) + "}"
    answer = client.post(path, content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert message_of(path, answer)


def stopping(path: str, texts: list[str]) -> dict:
    """Return a request with these stop strings, where the dialect of a path has them."""
    fields, inside = PATHS[path]
    if path == "/mull/chat":
        return {"model": "pocket", "request": {"messages": HI, "options": {"stop": texts}}}
    stop = {"stop_sequences" if path == "/v1/messages" else "stop": texts}
    return {"model": "pocket", **fields, **({inside: stop} if inside else stop)}


@pytest.mark.parametrize("path", PATHS)
def test_ten_thousand_stop_strings_are_refused(client: httpx.Client, path: str):
    answer = client.post(path, json=stopping(path, [f"stop {index}" for index in range(10_000)]))
    assert answer.status_code == 400
    field = "stop_sequences" if path == "/v1/messages" else "stop"
    assert f"{field} takes at most 128 texts, not 10000" in message_of(path, answer)


@pytest.mark.parametrize("path", PATHS)
def test_an_empty_stop_string_stops_nothing(client: httpx.Client, path: str):
    assert client.post(path, json=stopping(path, [""])).status_code == 200


def test_no_page_of_ours_comes_from_another_machine(client: httpx.Client):
    assert [client.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")] == [404, 404, 200]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/no/such/path"])
def test_wrong_methods_and_paths_are_told(client: httpx.Client, path: str, method: str):
    answer = client.request(method, path)
    assert answer.status_code == (404 if path == "/no/such/path" else 405)
    assert message_of(path, answer)


def test_bytes_that_are_no_http_harm_nobody(live, client: httpx.Client):
    for data in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", live.port), timeout=10) as link:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            link.recv(1000)
    assert client.get("/health").json()["status"] == "ok"


def test_a_body_that_never_comes_whole_is_forgotten(live, client: httpx.Client):
    with socket.create_connection(("127.0.0.1", live.port)) as link:
        link.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
    assert client.get("/health").json()["running"] == 0


def engine_is_clean(live) -> bool:
    """Whether the engine of the loaded model runs nothing and its blocks add up."""
    (model,) = live.pool.loaded
    engine = model.llm._worker._engine

    def check() -> bool:
        engine.pool.check()
        return not engine.has_work

    return model.llm._worker.run_exclusive(check)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; fails after a while."""
    pause, until = threading.Event(), time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until
        pause.wait(0.005)


ENDLESS = {"num_predict": 1900, "logit_bias": {"505": -100, "507": -100}, "think": "off"}


def test_clients_that_vanish_mid_stream_give_back_slots_and_blocks(live, client: httpx.Client):
    def vanish(index: int) -> None:
        body = {"model": "pocket", "request": {"messages": HI, "options": {**ENDLESS, "seed": index}}}
        with client.stream("POST", "/mull/chat", json=body) as answer:
            assert answer.status_code == 200
            next(answer.iter_bytes())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(vanish, range(24)))
    wait_until(lambda: live.pool.running == 0)
    wait_until(lambda: engine_is_clean(live))
    assert client.post("/mull/chat", json={"model": "pocket", "request": {"messages": HI}}).status_code == 200


def test_a_hundred_requests_at_once_of_all_dialects(live, client: httpx.Client):
    def ask(index: int) -> int:
        path = list(PATHS)[index % len(PATHS)]
        return client.post(path, json={"model": "pocket", **PATHS[path][0]}).status_code

    with ThreadPoolExecutor(100) as threads:
        assert list(threads.map(ask, range(100))) == [200] * 100
    wait_until(lambda: live.pool.running == 0)
    assert engine_is_clean(live)


@pytest.fixture
def own(tmp_path: Path):
    """Return settings with a store of their own, and what makes copies of the bundled model in it."""
    settings = load_settings({"HOME": str(tmp_path), "MULL_MODELS": str(tmp_path / "models")})
    store = Store(settings.models_dir)

    def make(name: str, text: str = "") -> None:
        details = Details("gguf", "qwen3", ("qwen3",), "1.9M", "Q8_0", 2048)
        modelfile = Modelfile.parse(f"FROM {model_path()}\n{text}")
        create(store, name, modelfile, base=tmp_path, inspect=lambda path: details)

    return settings, store, make


def ask(base_url: str, model: str) -> httpx.Response:
    body = {"model": model, "messages": HI, "stream": False, "options": {"temperature": 0}}
    return httpx.post(f"{base_url}/api/chat", json=body, timeout=60)


def test_a_model_deleted_or_replaced_while_loaded(serve, own):
    settings, store, make = own
    make("mine")
    live = serve(settings=settings)
    first = ask(live.base_url, "mine")
    assert first.status_code == 200
    make("mine", "SYSTEM Say no.\n")
    second = ask(live.base_url, "mine")
    assert second.json()["prompt_eval_count"] > first.json()["prompt_eval_count"]
    for blob in (settings.models_dir / "blobs").iterdir():
        blob.unlink()
    damaged = ask(live.base_url, "mine")
    assert damaged.status_code == 500
    assert "damaged" in damaged.json()["error"]
    store.remove("mine")
    assert ask(live.base_url, "mine").status_code == 404
    wait_until(lambda: not live.pool.loaded)
    assert ask(live.base_url, "pocket").status_code == 200


def test_models_switched_under_load_leave_nothing_behind(serve, own):
    settings, _, make = own
    make("one")
    make("two", "PARAMETER top_k 5\n")
    others = set(threading.enumerate())  # of the models that other tests share
    live = serve(ServerOptions(models_max=1), settings=settings)
    with ThreadPoolExecutor(6) as threads:
        codes = list(
            threads.map(lambda index: ask(live.base_url, ("one", "two")[index % 2]).status_code, range(12))
        )
    assert codes == [200] * 12
    assert len(live.pool.loaded) == 1
    engines = [thread for thread in set(threading.enumerate()) - others if thread.name == "mull-engine"]
    assert len(engines) == 1


@pytest.mark.parametrize("speculate", ["off", LoadOptions().speculate, "4"])
def test_the_same_request_has_the_same_answer_alone_and_among_seven_others(serve, speculate: str):
    live = serve(ServerOptions(load=LoadOptions(deterministic=True, speculate=speculate)))

    def ask_native(seed: int) -> tuple[str, int]:
        messages = [{"role": "user", "content": f"What is {400 + seed} + {90 * seed}?"}]
        options = {"seed": seed, "temperature": 1.5, "num_predict": 60}
        body = {"model": "pocket", "request": {"messages": messages, "options": options}}
        events = [
            json.loads(line)
            for line in httpx.post(f"{live.base_url}/mull/chat", json=body, timeout=60).text.splitlines()
        ]
        text = "".join(each["text"] for event in events for each in event.values() if "text" in each)
        return text, events[-1]["Done"]["usage"].get("drafted_tokens", 0)

    alone = [ask_native(seed) for seed in range(8)]
    # "auto" guesses only where a guess is cheap, which it is not without kernels.
    if speculate != "auto" or native.instruction_sets():
        assert any(drafted for _, drafted in alone) == (speculate != "off")
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(ask_native, range(8)))
    assert [text for text, _ in together] == [text for text, _ in alone]
