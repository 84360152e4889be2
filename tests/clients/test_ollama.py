"""Ollama's own Python client against a live server."""

from __future__ import annotations

import asyncio
import json

import gguf
import ollama
import pytest
from fake_llm import FakeLLM
from mull.chat.message import ToolCall
from mull.chat.stream import Reasoning, Text, ToolArguments, ToolCallBegin, ToolCallEvent
from mull.registry.bundled import POCKET
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool

QUESTION = [{"role": "user", "content": "What is 347 + 685?"}]
GREEDY = {"temperature": 0}


@pytest.fixture(scope="module")
def client(live):
    with ollama.Client(host=live.base_url) as client:
        yield client


def test_models_are_listed(client):
    listed = {model.model: model for model in client.list().models}
    pocket = listed["pocket:latest"]
    assert pocket.details.family == "qwen3"
    assert pocket.details.quantization_level == "Q8_0"
    assert len(pocket.digest) == 64


def test_a_model_is_shown(client):
    shown = client.show("pocket")
    assert {"completion", "thinking"} <= set(shown.capabilities)
    assert shown.details.format == "gguf"
    assert shown.modelinfo["qwen3.context_length"] == 2048
    assert "message" in shown.template


def test_a_chat_with_its_thought(client):
    reply = client.chat("pocket", QUESTION, options=GREEDY)
    assert reply.message.role == "assistant"
    assert reply.message.content == "1032"
    assert reply.message.thinking
    assert (reply.done, reply.done_reason) == (True, "stop")
    assert reply.eval_count > reply.prompt_eval_count > 5
    assert reply.total_duration >= reply.eval_duration > 0


def test_a_stream_says_the_same(client):
    whole = client.chat("pocket", QUESTION, options=GREEDY)
    parts = list(client.chat("pocket", QUESTION, options=GREEDY, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert "".join(part.message.thinking or "" for part in parts) == whole.message.thinking
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == whole.eval_count


def test_the_asynchronous_client(live):
    async def ask() -> str:
        client = ollama.AsyncClient(host=live.base_url)
        async with client:
            parts = await client.chat("pocket", QUESTION, options=GREEDY, stream=True)
            return "".join([part.message.content or "" async for part in parts])

    assert asyncio.run(ask()) == "1032"


@pytest.mark.parametrize("budget", [4, 8, 16])
def test_a_thinking_budget_holds(client, budget):
    parts = list(client.chat("pocket", QUESTION, options={**GREEDY, "think_budget": budget}, stream=True))
    last = parts[-1]
    raw = client._client.post(
        "/api/chat",
        json={"model": "pocket", "messages": QUESTION, "think": budget, "options": GREEDY, "stream": False},
    ).json()
    assert 0 < raw["thinking_count"] <= raw["thinking_budget"] <= budget
    assert raw["thinking_report"]["enforced"]
    assert raw["message"]["content"] == "".join(part.message.content or "" for part in parts) != ""
    assert raw["eval_count"] == last.eval_count


def test_thinking_can_be_turned_off(client):
    reply = client.chat("pocket", QUESTION, think=False, options=GREEDY)
    assert reply.message.thinking is None
    assert reply.message.content
    on = client.chat("pocket", QUESTION, think=True, options=GREEDY)
    assert on.message.thinking


def test_a_format(client):
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "integer"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    reply = client.chat("pocket", QUESTION, format=schema, think=True, options=GREEDY)
    assert isinstance(json.loads(reply.message.content)["answer"], int)
    assert reply.message.thinking
    plain = client.generate("pocket", "What is 347 + 685?", format=schema, think=False, options=GREEDY)
    assert set(json.loads(plain.response)) == {"answer"}


def test_generate_goes_on_from_its_context(client):
    first = client.generate("pocket", "What is 2 + 3?", options=GREEDY)
    assert first.response == "5"
    second = client.generate("pocket", "What is 347 + 685?", context=first.context, options=GREEDY)
    assert len(second.context) > len(first.context) + second.eval_count
    assert second.context[: len(first.context)] == first.context
    assert second.prompt_eval_count == len(second.context) - second.eval_count


def test_generate_streams_and_stops(client):
    parts = list(
        client.generate("pocket", "What is 347 + 685?", options={**GREEDY, "num_predict": 3}, stream=True)
    )
    assert parts[-1].done_reason == "length"
    assert parts[-1].eval_count == 3
    raw = client.generate("pocket", "The ball", raw=True, options={**GREEDY, "num_predict": 4})
    assert raw.context is None
    assert raw.eval_count <= 4


def test_logprobs(client):
    reply = client.chat("pocket", QUESTION, logprobs=True, top_logprobs=2, think=False, options=GREEDY)
    assert "".join(drawn.token for drawn in reply.logprobs).startswith(reply.message.content)
    for drawn in reply.logprobs:
        assert drawn.top_logprobs[0].logprob >= drawn.top_logprobs[1].logprob
        assert drawn.logprob <= 0
    streamed = client.chat(
        "pocket", QUESTION, logprobs=True, top_logprobs=2, think=False, options=GREEDY, stream=True
    )
    for chunk in streamed:
        if chunk.message.content:
            assert "".join(drawn.token for drawn in chunk.logprobs) == chunk.message.content


def test_a_modelfiles_parameters_hold_unless_the_request_sets_them(client):
    client.create("short", from_="pocket", parameters={"num_predict": 3, "temperature": 0})
    try:
        assert client.chat("short", QUESTION).eval_count == 3
        assert client.chat("short", QUESTION, options={"num_predict": 5}).eval_count == 5
    finally:
        client.delete("short")


def test_models_come_and_go(client):
    steps = [part.status for part in client.create("mine", from_="pocket", system="Be brief.", stream=True)]
    assert steps[-1] == "success"
    assert client.copy("mine", "yours").status == "success"
    assert client.show("yours").modelfile.count("SYSTEM") == 1
    names = {model.model for model in client.list().models}
    assert {"mine:latest", "yours:latest"} <= names
    for name in ("mine", "yours"):
        assert client.delete(name).status == "success"
    assert not {"mine:latest", "yours:latest"} & {model.model for model in client.list().models}


def test_a_model_from_a_file_of_the_clients(client, tmp_path):
    file = tmp_path / "own.gguf"
    file.write_bytes(POCKET.path.read_bytes() + b"\0" * 64)
    digest = client.create_blob(file)
    assert client.create("own", files={"own.gguf": digest}).status == "success"
    try:
        assert client.chat("own", QUESTION, options=GREEDY).message.content == "1032"
    finally:
        client.delete("own")


def test_a_model_in_other_types(client, tmp_path):
    floats = tmp_path / "floats.gguf"
    _in_float32(floats)
    digest = client.create_blob(floats)
    steps = list(client.create("smaller", files={"floats.gguf": digest}, quantize="q8_0", stream=True))
    try:
        assert "quantizing F32 model to Q8_0" in {step.status for step in steps}
        shown = client.show("smaller")
        assert shown.details.quantization_level == "Q8_0"
        assert client.chat("smaller", QUESTION, options=GREEDY).message.content == "1032"
    finally:
        client.delete("smaller")


def test_what_is_loaded(client):
    client.generate("pocket", keep_alive="10m")
    [loaded] = [model for model in client.ps().models if model.model == "pocket:latest"]
    assert loaded.context_length == 2048
    assert loaded.size > loaded.size_vram == 0
    assert client.generate("pocket", keep_alive=0).done_reason == "unload"
    assert not [model for model in client.ps().models if model.model == "pocket:latest"]


def test_errors_are_the_clients_own(client):
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
        client.chat("nope", QUESTION)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        list(client.chat("nope", QUESTION, stream=True))
    assert caught.value.status_code == 404
    for wrong in ({"temperature": -1}, {"think_budgt": 5}, {"stop": 5}):
        with pytest.raises(ollama.ResponseError) as caught:
            client.chat("pocket", QUESTION, options=wrong)
        assert caught.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="does not support vision") as caught:
        client.generate("pocket", "what is this?", images=["aGVsbG8="])
    assert caught.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="not implemented") as caught:
        client.embed("pocket", "a text")
    assert caught.value.status_code == 501


def test_a_prompt_that_is_too_long(client):
    long = [{"role": "user", "content": "7 + 8 = " * 200}, {"role": "assistant", "content": "15"}] * 4
    with pytest.raises(ollama.ResponseError, match=r"\d+ more than the context") as caught:
        client.chat("pocket", [*long, *QUESTION])
    assert caught.value.status_code == 400
    body = {
        "model": "pocket",
        "messages": [*long, *QUESTION],
        "truncate": True,
        "stream": False,
        "options": GREEDY,
    }
    cut = client._client.post("/api/chat", json=body).json()
    assert cut["truncated"]["messages"] >= 2
    assert cut["prompt_eval_count"] < 2048


def test_a_thought_is_ended_from_outside(client):
    long = {**GREEDY, "think_min": 1500, "think_rounds": 1000, "think_loop": "off"}
    body = {"model": "pocket", "messages": QUESTION, "options": long}
    with client._client.stream("POST", "/api/chat", json=body) as response:
        lines = response.iter_lines()
        first = json.loads(next(lines))
        ending = {"id": response.headers["X-Mull-Id"], "action": "reasoning_end"}
        assert client._client.post("/api/control", json=ending).status_code == 200
        rest = [json.loads(line) for line in lines]
    assert first["message"]["thinking"]
    assert rest[-1]["thinking_reason"] == "user"
    assert rest[-1]["thinking_count"] < 1500
    assert "".join(line["message"]["content"] for line in rest)
    assert client._client.post("/api/control", json=ending).status_code == 404


def weather(city: str) -> str:
    """Tell the weather.

    Args:
      city: Where.
    """
    return f"rain in {city}"


def test_a_round_trip_through_a_tool(serve, server_settings):
    call = ToolCall("weather", {"city": "Oslo"}, "call12345")
    asks = [
        Reasoning("I must look"),
        ToolCallBegin(0, "call12345", "weather"),
        ToolArguments(0, '{"city":"Oslo"}'),
        ToolCallEvent(call, 0),
    ]
    fake = FakeLLM(asks, [Text("It rains.")], asks, [Text("It rains.")])
    options = ServerOptions()
    server = serve(options, ModelPool(options, server_settings, opener=lambda *_: fake))
    client = ollama.Client(host=server.base_url)
    with client:
        for stream in (False, True):
            messages: list = [{"role": "user", "content": "How is the weather in Oslo?"}]
            replies = client.chat("pocket", messages, tools=[weather], stream=stream)
            for reply in replies if stream else [replies]:
                if reply.message.tool_calls:
                    messages.append(reply.message)
            [asked] = messages[-1].tool_calls
            assert asked.function.name == "weather"
            result = weather(**asked.function.arguments)
            messages.append({"role": "tool", "tool_name": asked.function.name, "content": result})
            assert client.chat("pocket", messages, tools=[weather]).message.content == "It rains."
    for first, second in (fake.requests[:2], fake.requests[2:]):
        assert first.tools[0]["function"]["name"] == "weather"
        assert second.messages[1].tool_calls[0].arguments == {"city": "Oslo"}
        assert second.messages[2].tool_name == "weather"
        assert second.messages[2].content == "rain in Oslo"


def _in_float32(path) -> None:
    """Write the bundled model with float32 weights."""
    reader = gguf.GGUFReader(POCKET.path)
    writer = gguf.GGUFWriter(path, "qwen3")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kinds = field.types
        sub = kinds[-1] if kinds[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kinds[0], sub_type=sub)
    writer.add_file_type(0)
    for tensor in reader.tensors:
        writer.add_tensor(
            tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype("float32")
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
