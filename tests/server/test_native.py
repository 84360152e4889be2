"""Requests and events as JSON: what comes back is what went in."""

from __future__ import annotations

import json
import math

import pytest
from mull.chat.message import Message, ToolCall
from mull.chat.request import ChatRequest
from mull.chat.stream import (
    Done,
    Event,
    Progress,
    Reasoning,
    Text,
    Thinking,
    ToolArguments,
    ToolCallBegin,
    ToolCallEvent,
    Truncated,
    Usage,
)
from mull.errors import ContextExceeded, InvalidRequest, ModelNotFound, MullError
from mull.runtime.grammar.constraint import Constraint
from mull.runtime.sampling.logprobs import TokenLogprob
from mull.runtime.thinking.plan import ThinkingReport
from mull.server.adapters import native
from mull.server.stream import to_json

REPORT = ThinkingReport(3, 100, None, 0, "natural", 1, 2, 3, 4, 5.5)

EVENTS: list[Event] = [
    Progress(1, 20),
    Text("grüße \ud83d \n\x00 ☃"),
    Reasoning(""),
    ToolCallBegin(0, "call1", "add"),
    ToolArguments(0, '{"a": 1'),
    ToolCallEvent(ToolCall("add", {"a": 1, "b": [None, {"c": 2.5}]}, "call1"), 1),
    ToolCallEvent(ToolCall("now")),
    Done(Usage(), "stop", (), 0),
    Done(
        Usage(1, 2, 3, 4, 5, 6, 7, 8, 9.0, 10.5, 11.25),
        "length",
        (1, 2, 3),
        2**63,
        Thinking(REPORT, enforced=False, notes=("a note",)),
        "incomplete",
        (TokenLogprob(5, -0.1, ((5, -0.1), (6, -math.inf))), TokenLogprob(6, -2.0)),
        Truncated(2, 300),
    ),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_comes_back_exactly(event: Event):
    line = to_json(native.event_json(event))
    assert b"\n" not in line
    assert native.read_event(json.loads(line)) == event


@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest((Message("user", "hi"),)),
        ChatRequest(raw="once", context=(1, 2, 3)),
        ChatRequest(
            (
                Message("system", "be brief"),
                Message("assistant", "", "hm", (ToolCall("f", {"x": {"y": [1]}}, "i"),)),
                Message("tool", "42", tool_name="f", tool_call_id="i"),
            ),
            tools=({"type": "function", "function": {"name": "f"}},),
            think=True,
            options={
                "temperature": 0.0,
                "logit_bias": {5: -100, 7: 1.5},
                "stop": ["a", "b"],
                "think_budget": "50%",
            },
            id="abc",
            format=Constraint("choice", '["a","b"]'),
            tool_choice="required",
            forced_tool="f",
            parallel_tool_calls=False,
            overflow="middle",
        ),
        ChatRequest((Message("user", "hi"),), think=12),
        ChatRequest((Message("user", "hi"),), think="high"),
    ],
)
def test_every_request_comes_back_exactly(request_: ChatRequest):
    assert native.read_request(json.loads(to_json(native.request_json(request_)))) == request_


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "request must be an object"),
        ({"messages": "hi"}, "request.messages must be a list"),
        ({"messages": [{"role": "boss", "content": "hi"}]}, "role must be one of"),
        ({"messages": [{"content": "hi"}]}, "messages.0 lacks a field"),
        ({"messages": [{"role": "user", "content": 5}]}, "content must be a text"),
        ({"messages": [], "raw": "x", "tools": [5]}, "tools.0 must be an object"),
        ({"raw": "x", "context": [1.5]}, "context.0 must be a whole number"),
        ({"raw": "x", "context": [True]}, "context.0 must be a whole number"),
        ({"raw": "x", "parallel_tool_calls": 1}, "must be true or false"),
        ({"raw": "x", "options": []}, "options must be an object"),
        ({"raw": "x", "no_such": 1}, "has no field 'no_such'"),
        ({}, "no message to answer"),
    ],
)
def test_what_is_no_request_is_refused(value: object, message: str):
    with pytest.raises(InvalidRequest, match=message):
        native.read_request(value)


def test_errors_keep_their_kind():
    for error in (ContextExceeded("too long", hint="shorter"), ModelNotFound("none"), MullError("odd")):
        with pytest.raises(MullError) as caught:
            native.read_event(json.loads(to_json(native.error(error))))
        assert type(caught.value) is type(error)
        assert (caught.value.message, caught.value.hint) == (error.message, error.hint)


def test_an_answer_that_is_no_error_of_ours_is_still_one():
    for body in ({"error": "plain"}, {"error": {"message": "m", "kind": "SystemExit"}}, {"error": None}):
        with pytest.raises(MullError):
            native.read_event(body)
