"""OpenAI's own Python client against a live server with the bundled model."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
from fake_llm import FakeLLM
from mull.chat.message import ToolCall
from mull.chat.stream import Reasoning, Text, ToolArguments, ToolCallBegin, ToolCallEvent
from mull.errors import InvalidRequest, MullError
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool
from pydantic import BaseModel

QUESTION = [{"role": "user", "content": "What is 347 + 685?"}]
GREEDY = {"model": "pocket", "messages": QUESTION, "temperature": 0}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = ToolCall("weather", {"city": "Oslo"}, "call12345")
CALLS = [
    Reasoning("hm"),
    Text("Let me see."),
    ToolCallBegin(0, "call12345", "weather"),
    ToolArguments(0, '{"city": '),
    ToolArguments(0, '"Oslo"}'),
    ToolCallEvent(CALL, 0),
]


@pytest.fixture(scope="module")
def client(live):
    with openai.OpenAI(base_url=f"{live.base_url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def scripted(serve, server_settings):
    """Return what makes a client of a server with a scripted model: the client, and the model."""

    def make(*replies, **options):
        fake = FakeLLM(*replies)
        server_options = ServerOptions(**options)
        pool = ModelPool(server_options, server_settings, opener=lambda *_: fake)
        server = serve(server_options, pool)
        return openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0), fake

    return make


class Sum(BaseModel):
    first: int
    second: int


def test_models(client):
    [model] = [one for one in client.models.list() if one.id == "pocket:latest"]
    assert model.object == "model"
    assert client.models.retrieve("pocket") == model
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nosuch")
    assert caught.value.code == "model_not_found"


def test_a_chat(client):
    reply = client.chat.completions.create(**GREEDY)
    [choice] = reply.choices
    assert choice.message.content == "1032"
    assert choice.message.reasoning_content
    assert choice.finish_reason == "stop"
    details = reply.usage.completion_tokens_details
    assert 0 < details.reasoning_tokens < reply.usage.completion_tokens
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_stream_adds_up_to_the_same(client):
    whole = client.chat.completions.create(**GREEDY)
    content = thought = ""
    chunks = list(
        client.chat.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True})
    )
    for chunk in chunks[:-1]:
        [choice] = chunk.choices
        content += choice.delta.content or ""
        thought += getattr(choice.delta, "reasoning_content", None) or ""
        assert chunk.usage is None
    message = whole.choices[0].message
    assert (content, thought) == (message.content, message.reasoning_content)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_clients_stream_helper(client):
    with client.chat.completions.stream(**GREEDY) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == "1032"


@pytest.mark.parametrize("budget", [8, 24])
@pytest.mark.parametrize(
    "asked",
    [
        lambda n: {"thinking_budget": n},
        lambda n: {"reasoning": {"max_tokens": n}},
        lambda n: {"thinking_token_budget": n},
        lambda n: {"chat_template_kwargs": {"thinking_budget": n}},
    ],
)
def test_a_thinking_budget_holds(client, budget, asked):
    reply = client.chat.completions.create(**GREEDY, extra_body=asked(budget))
    thought = reply.usage.completion_tokens_details.reasoning_tokens
    assert 0 < thought <= budget
    assert reply.thinking["tokens"] == thought
    assert reply.thinking["budget"] <= budget
    assert reply.choices[0].message.content


def test_no_thinking(client):
    reply = client.chat.completions.create(**GREEDY, reasoning_effort="none")
    assert reply.usage.completion_tokens_details.reasoning_tokens == 0
    assert getattr(reply.choices[0].message, "reasoning_content", None) is None


def test_limits_and_stops(client):
    reply = client.chat.completions.create(**GREEDY, max_completion_tokens=2, reasoning_effort="none")
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 2
    reply = client.chat.completions.create(**GREEDY, stop=["3"])
    assert reply.choices[0].message.content == "10"
    assert reply.choices[0].finish_reason == "stop"


def test_seeds_and_several_choices(client):
    asked = {"model": "pocket", "messages": QUESTION, "temperature": 1.5, "reasoning_effort": "none"}
    first, again = (client.chat.completions.create(**asked, seed=7, n=4) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2, 3]
    assert texts == [choice.message.content for choice in again.choices]
    assert first.system_fingerprint == again.system_fingerprint
    alone = client.chat.completions.create(**asked, seed=9)
    assert alone.choices[0].message.content == texts[2]


def test_several_choices_stream_side_by_side(client):
    whole = client.chat.completions.create(**GREEDY, n=3, seed=1)
    texts = ["", "", ""]
    reasons = []
    for chunk in client.chat.completions.create(**GREEDY, n=3, seed=1, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons += [choice.index] if choice.finish_reason else []
    assert texts == [choice.message.content for choice in whole.choices]
    assert sorted(reasons) == [0, 1, 2]


def test_logprobs(client):
    reply = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=3)
    entries = reply.choices[0].logprobs.content
    assert bytes(byte for entry in entries for byte in entry.bytes) == b"1032"
    assert {len(entry.top_logprobs) for entry in entries} == {3}
    assert all(entry.top_logprobs[0].logprob == entry.logprob <= 0 for entry in entries)
    chunks = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=3, stream=True)
    told = [c.choices[0].logprobs.content for c in chunks if c.choices[0].delta.content]
    assert [entry.bytes for each in told for entry in each] == [entry.bytes for entry in entries]


def test_a_logit_bias_bans_a_token(client, live):
    [token] = httpx.post(f"{live.base_url}/tokenize", json={"content": "1", "model": "pocket"}).json()[
        "tokens"
    ]
    asked = {**GREEDY, "reasoning_effort": "none", "max_tokens": 3}
    assert "1" in client.chat.completions.create(**asked).choices[0].message.content
    reply = client.chat.completions.create(**asked, logit_bias={str(token): -100})
    assert "1" not in reply.choices[0].message.content


def test_structured_output(client):
    schema = {
        "type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"],
        "additionalProperties": False,
    }  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "sum", "strict": True, "schema": schema}}
    reply = client.chat.completions.create(**GREEDY, response_format=form, max_completion_tokens=400)
    assert isinstance(json.loads(reply.choices[0].message.content)["sum"], int)
    assert reply.conformity == "valid"


def test_the_parse_helper(client):
    reply = client.chat.completions.parse(
        model="pocket", messages=QUESTION, temperature=0, response_format=Sum, max_completion_tokens=400
    )
    assert isinstance(reply.choices[0].message.parsed, Sum)
    response = client.responses.parse(
        model="pocket", input="What is 347 + 685?", temperature=0, text_format=Sum, max_output_tokens=400
    )
    assert isinstance(response.output_parsed, Sum)


def test_completions(client):
    reply = client.completions.create(
        model="pocket", prompt=["1", "2"], max_tokens=3, temperature=0, echo=True
    )
    assert [choice.text[0] for choice in reply.choices] == ["1", "2"]
    assert all(choice.finish_reason in ("length", "stop") for choice in reply.choices)
    texts = ["", ""]
    for chunk in client.completions.create(
        model="pocket", prompt=["1", "2"], max_tokens=3, temperature=0, echo=True, stream=True
    ):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in reply.choices]


def test_a_prompt_of_tokens(client):
    reply = client.completions.create(model="pocket", prompt=[20, 21], max_tokens=1, temperature=0, echo=True)
    assert len(reply.choices[0].text) >= 2
    assert reply.usage.prompt_tokens >= 2


def test_a_response(client):
    response = client.responses.create(model="pocket", input="What is 347 + 685?", temperature=0)
    assert response.output_text == "1032"
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.status == "completed"
    assert 0 < response.usage.output_tokens_details.reasoning_tokens < response.usage.output_tokens
    assert client.responses.retrieve(response.id).output_text == "1032"
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_response_as_a_stream(client):
    text, thought, last = "", "", None
    for event in client.responses.create(
        model="pocket", input="What is 347 + 685?", temperature=0, stream=True
    ):
        text += event.delta if event.type == "response.output_text.delta" else ""
        thought += event.delta if event.type == "response.reasoning_text.delta" else ""
        last = event
    assert (text, last.type) == ("1032", "response.completed")
    assert last.response.output_text == "1032"
    assert last.response.output[0].content[0].text == thought
    with client.responses.stream(model="pocket", input="What is 347 + 685?", temperature=0) as stream:
        list(stream)
        assert stream.get_final_response().output_text == "1032"


def test_a_budget_for_a_response(client):
    response = client.responses.create(
        model="pocket", input="What is 347 + 685?", temperature=0, extra_body={"reasoning": {"max_tokens": 8}}
    )
    assert 0 < response.usage.output_tokens_details.reasoning_tokens <= 8


def test_tools_all_the_way_round(scripted):
    client, fake = scripted(CALLS, [Text("It is cold.")])
    messages = [{"role": "user", "content": "How is it in Oslo?"}]
    first = client.chat.completions.create(model="pocket", messages=messages, tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    [call] = first.choices[0].message.tool_calls
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == (
        "call12345", "weather", {"city": "Oslo"},
    )  # fmt: skip
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "-3"}]
    second = client.chat.completions.create(model="pocket", messages=messages, tools=[WEATHER])
    assert second.choices[0].message.content == "It is cold."
    _, turn, result = fake.requests[1].messages
    assert (turn.content, turn.thinking, turn.tool_calls) == ("Let me see.", "hm", (CALL,))
    assert (result.role, result.content, result.tool_name) == ("tool", "-3", "weather")
    assert fake.requests[0].tools == (WEATHER,)
    assert fake.requests[0].id == first.id  # by which its thinking can be ended


def test_tool_calls_stream_in_pieces(scripted):
    client, _ = scripted(CALLS)
    messages = [{"role": "user", "content": "How is it in Oslo?"}]
    with client.chat.completions.stream(model="pocket", messages=messages, tools=[WEATHER]) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    deltas = [e.arguments_delta for e in events if e.type == "tool_calls.function.arguments.delta"]
    assert "".join(deltas) == '{"city": "Oslo"}'
    assert len(deltas) > 1
    [call] = final.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert final.choices[0].finish_reason == "tool_calls"


def test_tool_choice_reaches_the_model(scripted):
    client, fake = scripted([Text("x")])
    ask = {"model": "pocket", "messages": QUESTION, "tools": [WEATHER]}
    client.chat.completions.create(**ask, tool_choice="required", parallel_tool_calls=False)
    client.chat.completions.create(**ask, tool_choice={"type": "function", "function": {"name": "weather"}})
    client.chat.completions.create(**ask, tool_choice="none")
    assert [(r.tool_choice, r.forced_tool) for r in fake.requests] == [
        ("required", None), ("required", "weather"), ("none", None),
    ]  # fmt: skip
    assert not fake.requests[0].parallel_tool_calls


def test_response_tools_all_the_way_round(scripted):
    client, fake = scripted(CALLS, [Text("It is cold.")])
    tool = {"type": "function", **WEATHER["function"]}
    first = client.responses.create(model="pocket", input="How is it in Oslo?", tools=[tool])
    [call] = [item for item in first.output if item.type == "function_call"]
    assert json.loads(call.arguments) == {"city": "Oslo"}
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "-3"}
    second = client.responses.create(
        model="pocket", input=[output], tools=[tool], previous_response_id=first.id
    )
    assert second.output_text == "It is cold."
    _, turn, result = fake.requests[1].messages
    assert (turn.content, turn.thinking, turn.tool_calls) == ("Let me see.", "hm", (CALL,))
    assert (result.content, result.tool_name) == ("-3", "weather")
    asked = [{"role": "user", "content": "How is it in Oslo?"}, *first.output, output]
    client.responses.create(model="pocket", input=asked, tools=[tool])
    assert fake.requests[2].messages == fake.requests[1].messages


def test_tokens_are_counted(client):
    used = client.chat.completions.create(**GREEDY).usage.prompt_tokens
    text = QUESTION[0]["content"]
    assert client.responses.input_tokens.count(model="pocket", input=text).input_tokens == used
    counted = client.post(
        "/chat/completions/input_tokens", body={"model": "pocket", "messages": QUESTION}, cast_to=object
    )
    assert counted["input_tokens"] == used


def test_embeddings_are_refused_clearly(client):
    with pytest.raises(openai.InternalServerError, match="embeddings are not supported yet") as caught:
        client.embeddings.create(model="pocket", input="x")
    assert caught.value.status_code == 501
    assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("fields", "kind", "code", "param"),
    [
        ({"model": "nosuch"}, openai.NotFoundError, "model_not_found", "model"),
        ({"temperature": -1}, openai.BadRequestError, None, "temperature"),
        ({"messages": []}, openai.BadRequestError, None, "messages"),
        ({"messages": [{"role": "user", "content": "1 + " * 4000}]}, openai.BadRequestError,
         "context_length_exceeded", "prompt"),
        ({"extra_body": {"thinking_budgte": 3}}, openai.BadRequestError, None, "thinking_budgte"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_clients_exceptions(client, fields, kind, code, param, stream):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{**GREEDY, **fields}, stream=stream)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.type == "invalid_request_error"


def test_keys(scripted):
    client, _ = scripted(api_keys=("secret",))
    with pytest.raises(openai.AuthenticationError) as caught:
        client.models.list()
    assert caught.value.code == "invalid_api_key"
    assert client.with_options(api_key="secret").models.list().data


def test_an_error_after_the_beginning(scripted):
    client, _ = scripted([Text("x"), MullError("the power went")])
    with pytest.raises(openai.APIError, match="the power went"):
        list(client.chat.completions.create(model="pocket", messages=QUESTION, stream=True))


def test_if_one_choice_cannot_be_made_none_is(scripted):
    client, fake = scripted([Text("x")] * 3, [InvalidRequest("not twice", field="n")])
    with pytest.raises(openai.BadRequestError, match="not twice"):
        client.chat.completions.create(model="pocket", messages=QUESTION, n=2)
    fake.requests.clear()
    assert (
        client.chat.completions.create(model="pocket", messages=QUESTION).choices[0].message.content == "xxx"
    )


def test_ignored_fields_are_told(client):
    raw = client.chat.completions.with_raw_response.create(**GREEDY, user="ann", extra_body={"frobnicate": 1})
    assert set(raw.headers["x-mull-ignored"].split(",")) == {"user", "frobnicate"}


def test_a_form_is_read_as_json(live):
    body = json.dumps({**GREEDY, "max_tokens": 1})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    reply = httpx.post(f"{live.base_url}/chat/completions", content=body, headers=headers, timeout=60)
    assert reply.json()["choices"][0]["finish_reason"] == "length"
