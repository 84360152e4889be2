"""Anthropic's JSON to requests, events to its blocks: whole and streamed alike."""

from __future__ import annotations

import json

import pytest
from mull.chat.message import Message, ToolCall
from mull.chat.request import ChatRequest
from mull.chat.stream import (
    Done,
    Progress,
    Reasoning,
    Text,
    ToolArguments,
    ToolCallBegin,
    ToolCallEvent,
    Truncated,
    Usage,
)
from mull.errors import ContextExceeded, InvalidRequest, ModelNotFound
from mull.runtime.grammar.constraint import Constraint
from mull.server.adapters import anthropic
from mull.server.adapters.anthropic_fields import MessagesBody

USAGE = Usage(prompt_tokens=30, cached_tokens=20, thinking_tokens=3, completion_tokens=9)
WEATHER = {
    "name": "weather",
    "description": "Tells it.",
    "input_schema": {"type": "object", "properties": {}},
}
CALL = ToolCall("weather", {"city": "Oslo"}, "call12345")


def asked(**fields: object) -> anthropic.Asked:
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}], **fields}
    return anthropic.request(MessagesBody.model_validate(body))


def end(**fields: object) -> Done:
    return Done(USAGE, str(fields.pop("reason", "stop")), (1, 2), 7, **fields)


def test_a_plain_request():
    request = asked(system="be brief", temperature=0.5, top_k=3, top_p=0.9, stop_sequences=["x"], stream=True)
    assert request.chat == ChatRequest(
        (Message("system", "be brief"), Message("user", "hi")),
        options={"num_predict": 100, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "stop": ["x"]},
    )
    assert request.ignored == ()


def test_only_what_the_request_sets_is_set():
    assert asked().chat.options == {"num_predict": 100}


def test_biases_and_stops_are_as_json_has_them():
    for fields in ({"options": {"logit_bias": {"5": -100}}}, {"logit_bias": {"5": -100}}):
        assert asked(**fields).chat.options == {"num_predict": 100, "logit_bias": {5: -100}}
    assert asked(stop_sequences=["", "x"]).chat.options["stop"] == ["x"]
    with pytest.raises(InvalidRequest, match="stop_sequences takes at most 128 texts") as caught:
        asked(stop_sequences=["x"] * 129)
    assert caught.value.field == "stop_sequences"
    with pytest.raises(InvalidRequest, match=r"options\.logit_bias"):
        asked(options={"logit_bias": {"many": 1}})


def test_blocks_become_messages():
    messages = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": "in Oslo?"}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "call it", "signature": "s"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "call12345", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "call12345",
                    "content": [{"type": "text", "text": "rain"}],
                },
                {"type": "text", "text": "Thanks."},
            ],
        },
    ]
    request = asked(messages=messages, tools=[WEATHER], system=[{"type": "text", "text": "s"}])
    assert request.chat.messages == (
        Message("system", "s"),
        Message("user", "Weather\nin Oslo?"),
        Message("assistant", "Looking.", thinking="call it", tool_calls=(CALL,)),
        Message("tool", "rain", tool_name="weather", tool_call_id="call12345"),
        Message("user", "Thanks."),
    )
    function = {"name": "weather", "description": "Tells it.", "parameters": WEATHER["input_schema"]}
    assert request.chat.tools == ({"type": "function", "function": function},)


def test_an_error_of_a_tool_says_so():
    result = {"type": "tool_result", "tool_use_id": "x", "content": "no such city", "is_error": True}
    request = asked(messages=[{"role": "user", "content": [result]}])
    assert request.chat.messages == (Message("tool", "error: no such city", tool_call_id="x"),)


@pytest.mark.parametrize(
    ("choice", "mode", "forced", "parallel"),
    [
        ({"type": "auto"}, "auto", None, True),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", None, False),
        ({"type": "tool", "name": "weather"}, "required", "weather", True),
        ({"type": "none"}, "none", None, True),
    ],
)
def test_tool_choice(choice, mode, forced, parallel):
    chat = asked(tools=[WEATHER], tool_choice=choice).chat
    assert (chat.tool_choice, chat.forced_tool, chat.parallel_tool_calls) == (mode, forced, parallel)


def test_thinking_budgets():
    request = asked(max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 2048})
    assert request.chat.options["think_budget"] == 2048
    assert request.notes == ()
    small = asked(thinking={"type": "enabled", "budget_tokens": 40, "display": "omitted"})
    assert small.hide_thinking
    assert "below Anthropic's least" in small.notes[0]
    assert asked(thinking={"type": "disabled"}).chat.options["think"] is False
    assert asked(output_config={"effort": "high"}).chat.options["think"] == "high"
    with pytest.raises(
        InvalidRequest, match=r"thinking\.budget_tokens must be below max_tokens, 100, not 100"
    ):
        asked(thinking={"type": "enabled", "budget_tokens": 100})


@pytest.mark.parametrize("place", ["output_format", "output_config"])
def test_structured_output(place):
    form = {"type": "json_schema", "schema": {"type": "object"}}
    fields = {place: form if place == "output_format" else {"format": form}}
    assert asked(**fields).chat.format == Constraint("schema", '{"type": "object"}')
    with pytest.raises(InvalidRequest, match="json_schema"):
        asked(output_format={"type": "xml"})


def test_what_has_no_meaning_here_is_told():
    request = asked(metadata={"user_id": "u"}, colour="red", options={"num_gpu": 3, "min_p": 0.1}, mirostat=2)
    assert request.ignored == ("colour", "options.num_gpu")
    assert request.chat.options == {"num_predict": 100, "min_p": 0.1, "mirostat": 2}


@pytest.mark.parametrize("kind", ["image", "document", "search_result"])
def test_what_is_no_text_is_refused(kind):
    with pytest.raises(InvalidRequest, match=f"blocks of type '{kind}' cannot be read"):
        asked(messages=[{"role": "user", "content": [{"type": kind}]}])


def test_tools_that_anthropic_runs_are_refused():
    with pytest.raises(InvalidRequest, match="web_search_20250305 is Anthropic's own"):
        asked(tools=[{"type": "web_search_20250305", "name": "web_search"}])


EVENTS = [
    Progress(10, 30),
    Reasoning("so "),
    Reasoning("it is"),
    Text("Look"),
    Text("ing."),
    ToolCallBegin(0, "call12345", "weather"),
    ToolArguments(0, '{"city":'),
    ToolArguments(0, ' "Oslo"}'),
    ToolCallEvent(CALL, 0),
]


def joined(stream: list[tuple[str, dict]]) -> dict:
    """Put a stream together as Anthropic's own client does."""
    message: dict = {}
    for name, event in stream:
        assert event["type"] == name
        match name:
            case "message_start":
                message = dict(event["message"])
                message["content"] = []
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append({**event["content_block"], "_json": "", "_open": True})
            case "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                assert block["_open"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "signature_delta":
                        block["signature"] += delta["signature"]
                    case "input_json_delta":
                        block["_json"] += delta["partial_json"]
            case "content_block_stop":
                message["content"][event["index"]]["_open"] = False
            case "message_delta":
                message |= event["delta"] | {"usage": event["usage"]}
    for block in message["content"]:
        assert not block.pop("_open")
        text = block.pop("_json")
        if text:
            block["input"] = json.loads(text)
    return message


@pytest.mark.parametrize("pieces", [True, False])
def test_a_stream_says_what_the_whole_reply_says(pieces):
    events = [e for e in EVENTS if pieces or not isinstance(e, ToolCallBegin | ToolArguments)]
    whole = anthropic.reply([*events, end()], "m")
    chunks = anthropic.Chunks("m")
    stream = [(name, dict(body)) for event in [*events, end()] for name, body in chunks.feed(event)]
    assert stream[0][0] == "message_start"
    assert stream[-1][0] == "message_stop"
    assert {**joined(stream), "id": 0} == {**whole, "id": 0}
    assert whole["content"] == [
        {"type": "thinking", "thinking": "so it is", "signature": anthropic.signature("so it is")},
        {"type": "text", "text": "Looking."},
        {"type": "tool_use", "id": "call12345", "name": "weather", "input": {"city": "Oslo"}},
    ]
    assert whole["stop_reason"] == "tool_use"
    assert whole["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 20,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 3},
    }


def test_a_stream_tells_its_prompts_size_at_once():
    chunks = anthropic.Chunks("m", prompt_tokens=30)
    stream = [(name, dict(body)) for event in [Text("a"), end()] for name, body in chunks.feed(event)]
    assert stream[0][1]["message"]["usage"]["input_tokens"] == 30
    assert joined(stream)["usage"]["input_tokens"] == 10


def test_a_thought_that_is_not_wanted_leaves_its_signature():
    whole = anthropic.reply([Reasoning("secret"), Text("a"), end()], "m", hide_thinking=True)
    assert whole["content"][0] == {
        "type": "thinking",
        "thinking": "",
        "signature": anthropic.signature("secret"),
    }
    chunks = anthropic.Chunks("m", hide_thinking=True)
    stream = [body for event in [Reasoning("secret"), Text("a"), end()] for _, body in chunks.feed(event)]
    assert "secret" not in json.dumps(stream)


@pytest.mark.parametrize(
    ("done", "reason", "stop"),
    [
        (end(), "end_turn", None),
        (end(reason="length"), "max_tokens", None),
        (end(stop="x"), "stop_sequence", "x"),
        (end(reason="repeat"), "end_turn", None),
    ],
)
def test_why_it_ended(done, reason, stop):
    whole = anthropic.reply([Text("a"), done], "m")
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, stop)


def test_what_was_left_out_is_told():
    whole = anthropic.reply([Text("a"), end(truncated=Truncated(4, 90))], "m")
    assert whole["truncated"] == {"messages": 4, "tokens": 90}


def test_errors():
    assert anthropic.error(ModelNotFound("model 'x' not found")) == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "model 'x' not found"},
        "request_id": None,
    }
    assert anthropic.error(ContextExceeded("too long", hint="shorten"))["error"] == {
        "type": "invalid_request_error",
        "message": "too long (shorten)",
    }
    assert next(anthropic.Chunks("m").fail(InvalidRequest("x")))[0] == "error"
