"""Anthropic's own Python client against a live server."""

from __future__ import annotations

import json

import anthropic
import pytest
from fake_llm import FakeLLM
from mull.chat.message import ToolCall
from mull.chat.stream import Text, ToolArguments, ToolCallBegin, ToolCallEvent
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool

QUESTION = [{"role": "user", "content": "What is 347 + 685?"}]
WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
GREEDY = {"extra_body": {"temperature": 0}}


@pytest.fixture(scope="module")
def client(live):
    with anthropic.Anthropic(base_url=live.base_url, api_key="none", max_retries=0) as client:
        yield client


def test_models(client):
    found = client.models.list()
    assert "pocket:latest" in [model.id for model in found]
    assert not found.has_more
    one = client.models.retrieve("pocket")
    assert (one.id, one.type, one.display_name) == ("pocket:latest", "model", "pocket:latest")
    assert one.created_at.year > 2000
    with pytest.raises(anthropic.NotFoundError, match="nothing-here") as caught:
        client.models.retrieve("nothing-here")
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "not_found_error"


def test_a_message_with_its_thought(client):
    message = client.messages.create(model="pocket", max_tokens=2000, messages=QUESTION, **GREEDY)
    thought, answer = message.content
    assert (thought.type, answer.type) == ("thinking", "text")
    assert thought.signature
    assert answer.text == "1032"
    assert message.stop_reason == "end_turn"
    usage = message.usage
    assert 10 < usage.output_tokens_details.thinking_tokens < usage.output_tokens


def test_a_stream_says_the_same(client):
    whole = client.messages.create(model="pocket", max_tokens=2000, messages=QUESTION, **GREEDY)
    with client.messages.stream(model="pocket", max_tokens=2000, messages=QUESTION, **GREEDY) as stream:
        events = list(stream)
        final = stream.get_final_message()
    kinds = [event.type for event in events]
    assert [block.model_dump() for block in final.content] == [block.model_dump() for block in whole.content]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    counted = client.messages.count_tokens(model="pocket", messages=QUESTION)
    assert events[0].message.usage.input_tokens == counted.input_tokens > 0
    assert final.usage.output_tokens == whole.usage.output_tokens
    total = final.usage.input_tokens + final.usage.cache_read_input_tokens
    assert total == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


@pytest.mark.parametrize("budget", [8, 24])
def test_a_thinking_budget_holds(client, budget):
    thinking = {"type": "enabled", "budget_tokens": budget}
    response = client.messages.with_raw_response.create(
        model="pocket", max_tokens=400, messages=QUESTION, thinking=thinking, **GREEDY
    )
    message = response.parse()
    report = message.model_extra["thinking"]
    assert report["budget"] == budget
    assert 0 < report["tokens"] <= budget
    assert message.content[-1].type == "text"
    assert message.content[-1].text
    assert "below Anthropic's least" in response.headers["x-mull-note"]


def test_thinking_can_be_off(client):
    message = client.messages.create(
        model="pocket", max_tokens=50, messages=QUESTION, thinking={"type": "disabled"}, **GREEDY
    )
    assert [block.type for block in message.content] == ["text"]


def test_max_tokens_beyond_the_context_are_no_error(client):
    with client.messages.stream(model="pocket", max_tokens=1_000_000, messages=QUESTION, **GREEDY) as stream:
        message = stream.get_final_message()
    assert message.content[-1].text == "1032"


def test_stop_sequences(client):
    message = client.messages.create(
        model="pocket", max_tokens=2000, messages=QUESTION, stop_sequences=["03"], **GREEDY
    )
    assert message.content[-1].text == "1"
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "03")


def test_structured_output(client):
    form = {"type": "json_schema", "schema": {"type": "object", "properties": {"a": {"enum": [1, 2]}},
            "required": ["a"], "additionalProperties": False}}  # fmt: skip
    message = client.messages.create(
        model="pocket",
        max_tokens=600,
        messages=QUESTION,
        extra_body={"output_format": form, "temperature": 0},
    )
    assert json.loads(message.content[-1].text) in ({"a": 1}, {"a": 2})


def test_tokens_are_counted_as_a_reply_counts_them(client):
    counted = client.messages.count_tokens(model="pocket", messages=QUESTION, system="Be brief.")
    message = client.messages.create(model="pocket", max_tokens=900, messages=QUESTION, system="Be brief.")
    usage = message.usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_errors_are_the_clients_own(client):
    with pytest.raises(anthropic.NotFoundError, match="nothing-here"):
        client.messages.create(model="nothing-here", max_tokens=5, messages=QUESTION)
    with pytest.raises(anthropic.BadRequestError, match="budget_tokens must be below max_tokens"):
        client.messages.create(
            model="pocket", max_tokens=5, messages=QUESTION, thinking={"type": "enabled", "budget_tokens": 5}
        )
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(model="pocket", max_tokens=0, messages=QUESTION)
    with pytest.raises(anthropic.BadRequestError, match="there is no message"):
        client.messages.create(model="pocket", max_tokens=5, messages=[])


def test_a_round_trip_through_a_tool(serve, server_settings):
    call = ToolCall("weather", {"city": "Oslo"}, "call12345")
    begin = [
        ToolCallBegin(0, "call12345", "weather"),
        ToolArguments(0, '{"city": '),
        ToolArguments(0, '"Oslo"}'),
    ]
    fake = FakeLLM([Text("Let me see."), *begin, ToolCallEvent(call, 0)], [Text("It rains.")])
    options = ServerOptions()
    pool = ModelPool(options, server_settings, opener=lambda *_: fake)
    client = anthropic.Anthropic(base_url=serve(options, pool=pool).base_url, api_key="none", max_retries=0)
    messages = [{"role": "user", "content": "Weather in Oslo?"}]
    ask = {"model": "pocket", "max_tokens": 100, "tools": [WEATHER], "tool_choice": {"type": "any"}}
    with client, client.messages.stream(messages=messages, **ask) as stream:
        first = stream.get_final_message()
        assert first.stop_reason == "tool_use"
        assert first.content[1].input == {"city": "Oslo"}
        messages += [
            {"role": "assistant", "content": [block.model_dump() for block in first.content]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": first.content[1].id, "content": "rain"}],
            },
        ]
        last = client.messages.create(messages=messages, **ask)
    assert last.content[0].text == "It rains."
    assert fake.requests[0].tool_choice == "required"
    asked, told = fake.requests[1].messages[1:]
    assert (asked.content, asked.tool_calls) == ("Let me see.", (call,))
    assert (told.role, told.content, told.tool_name, told.tool_call_id) == (
        "tool",
        "rain",
        "weather",
        "call12345",
    )
