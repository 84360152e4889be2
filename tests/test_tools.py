"""Calls of tools by the demo model, which knows none: what its replies are held to, and what comes of them."""

from __future__ import annotations

import json

import jsonschema
import pytest
from mull.chat.message import Message, ToolCall
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Text, ToolArguments, ToolCallBegin, ToolCallEvent
from mull.errors import InvalidRequest
from mull.llm import LLM
from mull.models import pocket
from mull.runtime.grammar.constraint import parse_format

ADD = {
    "type": "object",
    "properties": {
        "a": {"type": "integer", "minimum": 0, "maximum": 999},
        "how": {"enum": ["exactly", "roughly"]},
    },
    "required": ["a", "how"],
    "additionalProperties": False,
}
SAY = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
TOOLS = (
    {"type": "function", "function": {"name": "add", "description": "Add.", "parameters": ADD}},
    {"type": "function", "function": {"name": "say", "description": "Say.", "parameters": SAY}},
)
SCHEMAS = {"add": ADD, "say": SAY}


@pytest.fixture(scope="module")
def model():
    with LLM.open(str(pocket.model_path())) as llm:
        yield llm


def ask(seed=1, messages=(), tools=TOOLS, options=None, **fields):
    turns = (Message("user", "What is 347 + 685?"), *messages)
    options = {"num_predict": 300, "seed": seed, "temperature": 0.7, **(options or {})}
    return ChatRequest(turns, tools=tools, options=options, **fields)


def gather(events):
    events = list(events)
    assert isinstance(events[-1], Done)
    calls = [event for event in events if isinstance(event, ToolCallEvent)]
    for event in calls:
        pieces = [e.text for e in events if isinstance(e, ToolArguments) and e.index == event.index]
        assert json.loads("".join(pieces)) == event.call.arguments
        assert ToolCallBegin(event.index, event.call.id, event.call.name) in events
    return calls, "".join(event.text for event in events if isinstance(event, Text)), events[-1]


@pytest.mark.parametrize("options", [{}, {"think": 12}, {"think": "off"}], ids=str)
def test_a_call_that_is_required_comes_and_keeps_to_its_schema(model, options):
    calls, text, done = gather(
        model.chat(ask(tool_choice="required", options={**options, "num_predict": 600}))
    )
    assert done.reason == "stop"
    assert calls
    assert not text.strip()
    assert not done.tool_errors
    for event in calls:
        jsonschema.validate(event.call.arguments, SCHEMAS[event.call.name])


@pytest.mark.parametrize("name", ["add", "say"])
def test_a_named_tool_is_the_only_one_and_called_once(model, name):
    calls, _, done = gather(model.chat(ask(forced_tool=name, options={"think": "off"})))
    assert done.reason == "stop"
    assert [event.call.name for event in calls] == [name]
    jsonschema.validate(calls[0].call.arguments, SCHEMAS[name])


def test_no_more_than_one_call_where_no_more_are_wanted(model):
    request = ask(tool_choice="required", parallel_tool_calls=False, options={"think": "off"})
    calls, _, _ = gather(model.chat(request))
    assert len(calls) == 1


def test_tools_that_may_be_called_leave_an_answer_free(model):
    calls, text, done = gather(model.chat(ask(options={"temperature": 0})))
    assert not calls
    assert text
    assert not done.tool_errors


def test_beside_a_format_a_reply_is_either_the_format_or_calls(model):
    form = parse_format(
        {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
    )
    kinds = set()
    for seed in range(2):
        request = ask(seed, format=form, options={"think": "off", "temperature": 1.0})
        calls, text, done = gather(model.chat(request))
        if done.reason == "stop":
            assert bool(calls) != bool(text.strip())
            assert done.conformity == (None if calls else "valid")
            kinds.add(bool(calls))
    assert kinds


def test_no_tool_is_offered_where_none_may_be_called(model):
    plain = model.prompt(ask(tools=()))
    assert model.prompt(ask(tool_choice="none")).ids == plain.ids
    assert model.prompt(ask()).ids != plain.ids


@pytest.mark.parametrize(
    "fields",
    [
        {"forced_tool": "nothing"},
        {"tool_choice": "required", "tools": ()},
        {"tools": ({"type": "function", "function": {"description": "nameless"}},)},
    ],
    ids=str,
)
def test_a_choice_that_makes_no_sense(model, fields):
    with pytest.raises(InvalidRequest):
        model.chat(ask(**fields))


def test_what_of_a_schema_cannot_be_enforced_is_noted_and_the_rest_is_enforced(model):
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "maxItems": 2}
        },
        "required": ["a"],
        "dependentRequired": {"a": ["b"]},
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    calls, _, done = gather(model.chat(ask(tools=(tool,), forced_tool="f", options={"think": "off"})))
    assert "uniqueItems" in " ".join(done.thinking.notes)
    assert all(isinstance(item, bool) for item in calls[0].call.arguments["a"])


def test_a_budget_holds_for_a_whole_turn_of_calls_and_results(model):
    call = ToolCall("add", {"a": 1, "how": "exactly"}, "call00000")
    loop = (
        Message("assistant", thinking="347 and 685, so I add. " * 4, tool_calls=(call,)),
        Message("tool", "1032", tool_call_id="call00000"),
    )
    first = gather(model.chat(ask(options={"think": 60})))[2].thinking.report
    second = gather(model.chat(ask(messages=loop, options={"think": 60})))[2].thinking.report
    next_turn = (*loop, Message("assistant", "1032"), Message("user", "And 1 + 1?"))
    third = gather(model.chat(ask(messages=next_turn, options={"think": 60})))[2].thinking.report
    assert first.budget == third.budget == 60
    spent = 60 - second.budget
    assert 0 < spent <= 60
    assert second.tokens <= second.budget
