"""llama.cpp's own endpoints: completions of plain prompts, tokens, templates, and the end of a thought on request."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator

import httpx2
import pytest
from fake_llm import FakeLLM
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Event, Reasoning, Text, Usage
from mull.errors import ContextExceeded, InvalidRequest, MullError, NotSupported
from mull.runtime.grammar.constraint import Constraint
from mull.runtime.sampling.logprobs import TokenLogprob
from mull.server.adapters import llamacpp
from mull.server.adapters.llamacpp_fields import CompletionBody
from mull.server.bodies import EncodedBody
from starlette.testclient import TestClient

MESSAGES = [{"role": "user", "content": "hi"}]


def asked(**fields: object) -> llamacpp.Asked:
    return llamacpp.request(
        CompletionBody.model_validate({"prompt": "x", **fields}), lambda text: [len(text), 7]
    )


@pytest.fixture(scope="module")
def client(live):
    with httpx2.Client(base_url=live.base_url, timeout=60) as client:
        yield client


def post(client: httpx2.Client, path: str, **body: object) -> dict:
    answer = client.post(path, json={"model": "pocket", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_options():
    request = asked(
        n_predict=5, temperature=0.1, top_k=2, stop=["a"], n_probs=3, min_p=0.2, id_slot=1, seed=4
    )
    options = {
        "num_predict": 5,
        "temperature": 0.1,
        "top_k": 2,
        "stop": ["a"],
        "logprobs": 3,
        "min_p": 0.2,
        "seed": 4,
    }
    assert request.chats[0].options == options
    assert request.ignored == ("id_slot",)


def test_prompts_of_tokens_and_of_parts():
    assert asked(prompt="hi").chats[0].raw == "hi"
    assert asked(prompt=[1, 2, 3]).chats[0].context == (1, 2, 3)
    assert asked(prompt=[1, "four", 3]).chats[0].context == (1, 4, 7, 3)


@pytest.mark.parametrize(
    ("bias", "read"),
    [
        ([[5, 1.5], [6, False]], {5: 1.5, 6: -math.inf}),
        ([["abc", -1]], {3: -1.0, 7: -1.0}),
        ({"5": 2, "abc": 1}, {5: 2.0, 3: 1.0, 7: 1.0}),
    ],
)
def test_biases(bias, read):
    assert asked(logit_bias=bias).chats[0].options["logit_bias"] == read


@pytest.mark.parametrize("bias", [[[5]], [[5, True]], [[5, "much"]]])
def test_biases_that_are_none(bias):
    with pytest.raises(InvalidRequest, match="bias"):
        asked(logit_bias=bias)


def test_formats():
    assert asked(grammar='root ::= "a"').chats[0].format == Constraint("gbnf", 'root ::= "a"')
    assert asked(json_schema={"type": "object"}).chats[0].format == Constraint("schema", '{"type": "object"}')
    with pytest.raises(InvalidRequest, match="exclude"):
        asked(grammar='root ::= "a"', json_schema={"type": "object"})


def test_several_prompts():
    both = asked(prompt=["The ball", "What"]).chats
    assert [(chat.raw, chat.context) for chat in both] == [("The ball", ()), ("What", ())]
    mixed = asked(prompt=["x", [1, 2], [3, "four"]]).chats
    assert [(chat.raw, chat.context) for chat in mixed] == [("x", ()), ("", (1, 2)), ("", (3, 4, 7))]


@pytest.mark.parametrize("prompt", [[], [[]], [["a", "b"]], [1, [2]], ["x"] * 129])
def test_prompts_that_are_none(prompt):
    with pytest.raises(InvalidRequest, match="prompt"):
        asked(prompt=prompt)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (NotSupported("no"), {"code": 400, "message": "no", "type": "invalid_request_error"}),
        (EncodedBody("zip"), {"code": 415, "message": "zip", "type": "invalid_request_error"}),
        (MullError("oh"), {"code": 500, "message": "oh", "type": "server_error"}),
        (
            ContextExceeded("too long", hint="cut it", tokens=(9, 8)),
            {
                "code": 400,
                "message": "too long (cut it)",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9,
                "n_ctx": 8,
            },
        ),
    ],
)
def test_errors(failure: MullError, told: dict):
    assert llamacpp.error(failure) == {"error": told}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(
            ("POST", f"/{name}")
            for name in ("completion", "completions", "tokenize", "detokenize", "apply-template")
        ),
        *(("DELETE", f"/{name}") for name in ("props", "slots")),
    ],
)
def test_errors_before_the_reply_have_llama_cpps_form(client, method: str, path: str):
    error = client.request(method, path, json={"prompt": {}}).json()["error"]
    assert set(error) == {"code", "message", "type"}
    assert (error["code"], error["type"]) == (400 if method == "POST" else 405, "invalid_request_error")


def test_a_prompt_that_is_too_long(client):
    answer = client.post("/completion", json={"model": "pocket", "prompt": [505] * 3000})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["n_prompt_tokens"]) == ("exceed_context_size_error", 3000)
    assert error["n_ctx"] == client.get("/props").json()["default_generation_settings"]["n_ctx"]


@pytest.mark.parametrize(
    ("reason", "stop", "kind"), [("stop", None, "eos"), ("stop", "x", "word"), ("length", None, "limit")]
)
def test_why_it_ended(reason, stop, kind):
    chunks = llamacpp.Chunks("m", str, stream=False)
    (end,) = (
        c for e in [Text("a"), Text("b"), Done(Usage(), reason, (1,), 3, stop=stop)] for c in chunks.feed(e)
    )
    assert (end["content"], end["stop_type"], end["stopping_word"]) == ("ab", kind, stop or "")


def test_a_prompt_is_continued_as_it_is(client):
    whole = post(
        client, "/completion", prompt="1+1=", n_predict=8, temperature=0, return_tokens=True, n_probs=2
    )
    assert whole["stop"]
    assert whole["tokens_predicted"] == len(whole["tokens"]) == 8 or whole["stop_type"] == "eos"
    assert len(whole["completion_probabilities"]) == len(whole["tokens"])
    first = whole["completion_probabilities"][0]
    assert first["id"] == first["top_logprobs"][0]["id"] == whole["tokens"][0]
    assert first["logprob"] <= 0
    ids = post(client, "/tokenize", content="1+1=", add_special=True)["tokens"]
    again = post(client, "/completion", prompt=ids, n_predict=8, temperature=0, return_tokens=True)
    assert again["tokens"] == whole["tokens"]


def test_tokens_are_spelled_as_text(client):
    (token,) = post(client, "/tokenize", content=" is")["tokens"]
    bias = [[token, 100]]
    whole = post(client, "/completion", prompt="This", n_predict=1, n_probs=1, logit_bias=bias, temperature=0)
    drawn = whole["completion_probabilities"][0]
    assert (drawn["id"], drawn["token"], drawn["bytes"]) == (token, " is", [32, 105, 115])
    assert whole["content"] == " is"


def test_parts_of_a_character_are_bytes():
    drawn = TokenLogprob(7, -0.5, ((7, -0.5), (8, -math.inf)))
    done = Done(Usage(), "stop", (7,), 3, logprobs=(drawn,))
    whole = llamacpp.Chunks("m", {7: b"\xe6\x97", 8: b"a"}.__getitem__, stream=False).whole([done])
    (told,) = whole["completion_probabilities"]
    assert (told["token"], told["bytes"]) == ("\ufffd", [0xE6, 0x97])
    assert told["top_logprobs"][1] == {"id": 8, "token": "a", "bytes": [97], "logprob": -9999.0}


def test_several_prompts_are_continued_each(client):
    body = {"n_predict": 6, "temperature": 0}
    prompts = ["1+1=", "What is"]
    alone = [post(client, "/completion", prompt=prompt, **body)["content"] for prompt in prompts]
    both = post(client, "/completion", prompt=prompts, **body)
    assert [(one["index"], one["content"]) for one in both] == list(enumerate(alone))
    assert post(client, "/completion", prompt=prompts[:1], **body)["content"] == alone[0]
    texts = ["", ""]
    asked = {"model": "pocket", "prompt": prompts, "stream": True, **body}
    with client.stream("POST", "/completion", json=asked) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                chunk = json.loads(line[6:])
                texts[chunk["index"]] += chunk["content"]
    assert texts == alone


def test_a_stream_gives_the_same_text(client):
    body = {"model": "pocket", "prompt": "1+1=", "n_predict": 8, "temperature": 0}
    whole = post(client, "/completion", **body)
    with client.stream("POST", "/completion", json={**body, "stream": True}) as answer:
        chunks = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    assert "".join(chunk["content"] for chunk in chunks) == whole["content"]
    assert [chunk["stop"] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["timings"]["predicted_n"] == whole["tokens_predicted"]


def test_tokens_there_and_back(client):
    text = "What is 12 + 30? é 日本"
    ids = post(client, "/tokenize", content=text)["tokens"]
    assert post(client, "/detokenize", tokens=ids)["content"] == text
    pieces = post(client, "/tokenize", content=text, with_pieces=True)["tokens"]
    assert [piece["id"] for piece in pieces] == ids
    raw = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces)
    assert raw.decode() == text
    answer = client.post("/detokenize", json={"model": "pocket", "tokens": [10**9]})
    assert answer.status_code == 400
    assert "no token 1000000000" in answer.json()["error"]["message"]


def test_the_template_is_applied(client):
    messages = [{"role": "user", "content": "Hi there"}]
    prompt = post(client, "/apply-template", messages=messages)["prompt"]
    assert "Hi there" in prompt
    counted = post(client, "/v1/messages/count_tokens", messages=messages)
    assert counted["input_tokens"] == len(
        post(client, "/tokenize", content=prompt, add_special=True)["tokens"]
    )


def test_a_last_message_of_the_assistant_is_a_finished_turn(client):
    messages = [{"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "It is"}]
    prompt = post(client, "/apply-template", messages=messages)["prompt"]
    said, following = prompt.split("It is")
    assert "What is 2 + 3?" in said
    assert following.startswith("<|im_end|>\n<|im_start|>assistant")


def test_props_and_slots(client):
    props = client.get("/props", params={"model": "pocket"}).json()
    assert props["default_generation_settings"]["n_ctx"] > 0
    assert props["chat_template"]
    slots = client.get("/slots").json()
    assert {slot["model"] for slot in slots} == {"pocket:latest"}
    assert len(slots) == props["total_slots"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/messages", {"messages": MESSAGES, "max_tokens": 9}),
        ("/api/chat", {"messages": MESSAGES}),
    ],
)
def test_every_dialects_id_ends_a_thought(serve, fake_pool, path: str, asked: dict):
    model, go_on = FakeLLM(), threading.Event()

    def chat(request: ChatRequest) -> Iterator[Event]:
        model.requests.append(request)
        yield Reasoning("so")
        assert go_on.wait(200)
        yield Done(Usage(), "stop", (), 0)

    def end_thinking(request_id: str) -> bool:
        model.ended_thinking.append(request_id)
        return any(request.id == request_id for request in model.requests)

    model.chat, model.end_thinking = chat, end_thinking
    base_url = serve(pool=fake_pool(model)).base_url
    body = {"model": "pocket", "stream": True, **asked}
    with (
        httpx2.Client(base_url=base_url, timeout=60) as client,
        client.stream("POST", path, json=body) as reply,
    ):
        first = next(line for line in reply.iter_lines() if "{" in line)
        told = json.loads(first[first.index("{") :])
        told = told if path == "/api/chat" else told.get("response") or told.get("message") or told
        ending = {"id": reply.headers.get("x-mull-id") or told["id"], "action": "reasoning_end"}
        answer = client.post("/v1/chat/completions/control", json=ending)
        go_on.set()
    assert answer.status_code == 200, answer.text
    assert model.requests[0].id in model.ended_thinking


def test_all_choices_of_a_request_end_their_thoughts(fake_app):
    model = FakeLLM()
    model.end_thinking = lambda request_id: model.ended_thinking.append(request_id) or True
    with TestClient(fake_app(model), base_url="http://127.0.0.1:11434") as client:
        client.post("/v1/chat/completions", json={"model": "pocket", "n": 3, "messages": MESSAGES})
        ids = {request.id for request in model.requests}
        (first,) = {one.rsplit("-", 1)[0] for one in ids if one.count("-") > 1}
        ending = {"id": first, "action": "reasoning_end"}
        assert client.post("/v1/chat/completions/control", json=ending).status_code == 200
    assert len(ids) == 3
    assert ids <= set(model.ended_thinking)


def test_a_thought_ends_on_request(client):
    body = {
        "model": "pocket",
        "stream": True,
        "messages": [{"role": "user", "content": "What is 98765 + 43219?"}],
        "think": True,
        "options": {"temperature": 0, "think_budget": 400, "think_min": 399},
    }
    thought = answer = identity = ""
    done: dict = {}
    with client.stream("POST", "/v1/messages", json={**body, "max_tokens": 600}) as reply:
        assert reply.status_code == 200
        for line in reply.iter_lines():
            if not line.startswith("data: "):
                continue
            event = json.loads(line[6:])
            delta = event.get("delta", {})
            identity = event["message"]["id"] if event["type"] == "message_start" else identity
            if delta.get("type") == "thinking_delta" and not thought:
                thought = delta["thinking"]
                (busy,) = [s for s in client.get("/slots").json() if s["is_processing"]][:1]
                assert busy["model"] == "pocket:latest"
                post(client, "/v1/chat/completions/control", id=identity, action="reasoning_end")
            answer += delta.get("text", "")
            done = event if event["type"] == "message_delta" else done
    assert thought
    assert answer
    assert done["thinking"]["reason"] == "user"
    assert done["thinking"]["tokens"] < 400


def test_nothing_to_end(client):
    answer = client.post(
        "/v1/chat/completions/control", json={"id": "chatcmpl-none", "action": "reasoning_end"}
    )
    assert answer.status_code == 404
    message = "no reply 'chatcmpl-none' is under way"
    assert answer.json()["error"] == {"code": 404, "message": message, "type": "not_found_error"}
    answer = client.post("/v1/chat/completions/control", json={"id": "chatcmpl-none", "action": "explode"})
    assert answer.status_code == 400
