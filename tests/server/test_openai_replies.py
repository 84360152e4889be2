"""Replies in OpenAI's dialect: the same events as one message and as chunks, and errors in its own form."""

from __future__ import annotations

import json

import pytest
from fake_llm import USAGE
from mull.chat.message import ToolCall
from mull.chat.stream import (
    Done,
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
from mull.errors import ContextExceeded, InvalidRequest, ModelNotFound, MullError, OutOfMemory
from mull.runtime.sampling.logprobs import TokenLogprob
from mull.runtime.thinking.plan import ThinkingReport
from mull.server.adapters import openai, openai_chat, openai_completions
from mull.server.adapters.openai import Head
from mull.server.pool import ServerBusy

HEAD = Head("chatcmpl-1", "m", "fp_1", created=7)
REPORT = ThinkingReport(9, 10, 12, 0, "soft", 0, 2, 1, 0, 3.5)
CALL = ToolCall("weather", {"city": "Oslo", "days": 2}, "call1")
CALLED = [
    Text("Let me see."),
    ToolCallBegin(0, "call1", "weather"),
    ToolArguments(0, '{"city": "Os'),
    ToolArguments(0, 'lo", "days": 2}'),
    ToolCallEvent(CALL, 0),
    ToolCallBegin(1, "call2", "clock"),
    ToolArguments(1, "{}"),
    ToolCallEvent(ToolCall("clock", {}, "call2"), 1),
]
TEXTS = {1: b"<think>", 2: b"so", 3: b"</think>", 4: b"f\xc3", 5: b"\xbcnf", 6: b"<end>"}


def done(reason="stop", **fields):
    return Done(USAGE, reason, (5, 6, 7), 42, **fields)


def streamed(events, head=HEAD, index=0):
    chunks = openai_chat.Chunks(head, index, [])
    return [chunk for event in events for chunk in chunks.feed(event)]


def joined(chunks):
    """Put a message together again as clients do."""
    message: dict = {"content": "", "reasoning_content": "", "tool_calls": []}
    for chunk in chunks:
        [choice] = chunk["choices"]
        delta = choice["delta"]
        message["content"] += delta.get("content", "")
        message["reasoning_content"] += delta.get("reasoning_content", "")
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(message["tool_calls"]):
                message["tool_calls"].append(
                    {"id": call["id"], "name": call["function"]["name"], "arguments": ""}
                )
            message["tool_calls"][call["index"]]["arguments"] += call["function"]["arguments"]
    return message, chunks[-1]["choices"][0]["finish_reason"]


def test_a_reply_as_one_message():
    events = [Progress(3, 3), Reasoning("so"), Reasoning(" what"), Text("an"), Text("swer"), done()]
    reply = openai_chat.reply(HEAD, [events])
    assert reply["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "answer",
                "reasoning_content": "so what",
                "reasoning": "so what",
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert (reply["id"], reply["object"], reply["created"]) == ("chatcmpl-1", "chat.completion", 7)
    assert reply["usage"] == {
        "prompt_tokens": 26,
        "completion_tokens": 298,
        "total_tokens": 324,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert (reply["seed"], reply["system_fingerprint"], reply["model"]) == (42, "fp_1", "m")
    assert "thinking" not in reply


def test_a_stream_begins_with_the_role_and_ends_with_the_reason():
    chunks = streamed([Progress(3, 3), Reasoning("so"), Text("an"), Text("swer"), done()])
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "so", "reasoning": "so"},
        {"content": "an"},
        {"content": "swer"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["stop"]
    assert all("usage" not in chunk for chunk in chunks)


def test_progress_where_it_was_asked_for():
    head = Head("i", "m", "f", tells_progress=True)
    told = [
        chunk["prompt_progress"] for chunk in streamed([Progress(3, 9)], head) if "prompt_progress" in chunk
    ]
    assert told == [{"total": 9, "processed": 3}]
    assert streamed([Progress(3, 9)]) == []


@pytest.mark.parametrize(
    ("reason", "events", "expected"),
    [
        ("stop", [Text("x")], "stop"),
        ("length", [Text("x")], "length"),
        ("repeat", [Text("x")], "length"),
        ("cancelled", [Text("x")], "stop"),
        ("stop", [ToolCallEvent(CALL)], "tool_calls"),
        ("length", [ToolCallEvent(CALL)], "length"),
    ],
)
def test_why_a_reply_ended(reason, events, expected):
    events = [*events, done(reason)]
    assert openai_chat.reply(HEAD, [events])["choices"][0]["finish_reason"] == expected
    assert streamed(events)[-1]["choices"][0]["finish_reason"] == expected


def test_tool_calls_come_in_pieces_that_add_up():
    events = [*CALLED, done()]
    message, reason = joined(streamed(events))
    whole = openai_chat.reply(HEAD, [events])["choices"][0]["message"]
    assert reason == "tool_calls"
    assert message["content"] == whole["content"] == "Let me see."
    assert [(call["id"], call["name"]) for call in message["tool_calls"]] == [
        ("call1", "weather"),
        ("call2", "clock"),
    ]
    for piece, call in zip(message["tool_calls"], whole["tool_calls"], strict=True):
        assert json.loads(piece["arguments"]) == json.loads(call["function"]["arguments"])
        assert call["type"] == "function"


def test_a_call_begins_with_its_name():
    chunks = streamed(CALLED[1:])
    first = chunks[1]["choices"][0]["delta"]["tool_calls"]
    assert first == [
        {"index": 0, "id": "call1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    ]
    assert chunks[2]["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "function": {"arguments": '{"city": "Os'}}
    ]


def test_a_call_that_came_whole_is_sent_whole():
    message, _ = joined(
        streamed([ToolCallEvent(CALL), ToolCallEvent(ToolCall("clock", {}, "call2")), done()])
    )
    assert message["tool_calls"] == [
        {"id": "call1", "name": "weather", "arguments": '{"city": "Oslo", "days": 2}'},
        {"id": "call2", "name": "clock", "arguments": "{}"},
    ]


def test_a_call_that_proves_broken_comes_as_text():
    raw = '<tool_call>{"name": "weather", "arguments": {"city": </tool_call>'
    events = [*CALLED[1:3], Text(raw), done(tool_errors=("no JSON",))]
    whole = openai_chat.reply(HEAD, [events])
    assert "tool_calls" not in whole["choices"][0]["message"]
    assert whole["choices"][0]["message"]["content"] == raw
    chunks = streamed(events)
    for told in (whole, chunks[-1]):
        assert told["choices"][0]["finish_reason"] == "stop"
        assert told["tool_errors"] == ["no JSON"]
    assert joined(chunks)[0]["content"] == raw


def test_a_message_of_calls_alone_has_no_content():
    message = openai_chat.reply(HEAD, [[ToolCallEvent(CALL), done()]])["choices"][0]["message"]
    assert message["content"] is None


def test_thoughts_can_be_left_out():
    head = Head("i", "m", "f", shows_thinking=False)
    events = [Reasoning("so"), Text("x"), done()]
    assert "reasoning_content" not in openai_chat.reply(head, [events])["choices"][0]["message"]
    assert joined(streamed(events, head))[0]["reasoning_content"] == ""


def test_the_thinking_report_and_what_was_cut():
    events = [Text("x"), done(thinking=Thinking(REPORT, notes=("a note",)), truncated=Truncated(2, 90))]
    for told in (openai_chat.reply(HEAD, [events]), streamed(events)[-1]):
        assert told["thinking"]["tokens"] == 9
        assert told["thinking"]["budget"] == 10
        assert told["thinking"]["reason"] == "soft"
        assert told["thinking"]["enforced"] is True
        assert told["thinking"]["notes"] == ["a note"]
        assert told["truncated"] == {"messages": 2, "tokens": 90}


def test_several_choices_count_their_prompt_once():
    ends = [Done(Usage(prompt_tokens=10, cached_tokens=n, thinking_tokens=1, completion_tokens=5), "stop", (), n)
            for n in (0, 9)]  # fmt: skip
    reply = openai_chat.reply(HEAD, [[Text("a"), ends[0]], [Text("b"), ends[1]]])
    assert [choice["message"]["content"] for choice in reply["choices"]] == ["a", "b"]
    assert [choice["seed"] for choice in reply["choices"]] == [0, 9]
    usage = reply["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (10, 10, 20)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 2


def test_usage_comes_last_where_it_was_asked_for():
    head = Head("i", "m", "f", includes_usage=True)
    chunks = streamed([Text("x"), done()], head)
    assert all(chunk["usage"] is None for chunk in chunks)
    *told, end = openai.ending(head, "chat.completion.chunk", [(0, done())])
    assert [(chunk["choices"], chunk["usage"]["total_tokens"]) for chunk in told] == [([], 324)]
    assert end == "[DONE]"
    assert list(openai.ending(HEAD, "x", [])) == ["[DONE]"]


def test_logprobs_are_those_of_the_answer():
    reports = tuple(TokenLogprob(token, -token / 2, ((token, -token / 2), (2, -9.0))) for token in TEXTS)
    head = Head("i", "m", "f", token_bytes=TEXTS.__getitem__)
    events = [Reasoning("so"), Text("fün", reports[3:4]), Text("f", reports[4:5]), done(logprobs=reports)]
    [choice] = openai_chat.reply(head, [events])["choices"]
    assert [entry["bytes"] for entry in choice["logprobs"]["content"]] == [list(TEXTS[4]), list(TEXTS[5])]
    assert choice["logprobs"]["content"][0]["logprob"] == -2.0
    assert choice["logprobs"]["content"][0]["top_logprobs"][1] == {
        "token": "so",
        "logprob": -9.0,
        "bytes": [115, 111],
    }
    *_, first, second, last = (chunk["choices"][0] for chunk in streamed(events, head))
    assert first["logprobs"]["content"] + second["logprobs"]["content"] == choice["logprobs"]["content"]
    assert "logprobs" not in last


def test_logprobs_are_numbers_whatever_the_model_thought():
    report = TokenLogprob(2, -float("inf"), ((3, -float("inf")),))
    head = Head("i", "m", "f", token_bytes=TEXTS.__getitem__)
    reply = openai_chat.reply(head, [[Text("so", (report,)), done(logprobs=(report,))]])
    json.dumps(reply, allow_nan=False)


def test_completions_and_their_logprobs():
    reports = tuple(TokenLogprob(token, -1.0, ((2, -1.0),)) for token in (2, 2))
    head = Head("i", "m", "f", token_bytes=TEXTS.__getitem__)
    events = [Text("so", reports[:1]), Text("so", reports[1:]), done("length", logprobs=reports)]
    [choice] = openai_completions.reply(head, [(0, events)], ["> "])["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("> soso", "length")
    assert choice["logprobs"] == {
        "tokens": ["so", "so"],
        "token_logprobs": [-1.0, -1.0],
        "top_logprobs": [{"so": -1.0}, {"so": -1.0}],
        "text_offset": [2, 4],
    }
    chunks = openai_completions.Chunks(head, 3, 0, "> ", [])
    told = [chunk["choices"][0] for event in events for chunk in chunks.feed(event)]
    assert "".join(one["text"] for one in told) == "> soso"
    assert {one["index"] for one in told} == {3}
    assert [one["logprobs"] and one["logprobs"]["text_offset"] for one in told] == [[2], [4], None]


def test_completions_of_several_prompts_count_each_once():
    choices = [(0, [Text("a"), done()]), (0, [Text("b"), done()]), (1, [Text("c"), done()])]
    reply = openai_completions.reply(HEAD, choices, ["", ">"])
    assert [choice["text"] for choice in reply["choices"]] == ["a", "b", ">c"]
    assert reply["usage"]["prompt_tokens"] == 52
    assert reply["usage"]["completion_tokens"] == 3 * 298


class _Status(MullError):
    def __init__(self, status: int) -> None:
        super().__init__("no")
        self.status = status


@pytest.mark.parametrize(
    ("failure", "kind", "code", "param"),
    [
        (InvalidRequest("no", field="top_p"), "invalid_request_error", None, "top_p"),
        (ContextExceeded("long"), "invalid_request_error", "context_length_exceeded", None),
        (ModelNotFound("gone"), "invalid_request_error", "model_not_found", "model"),
        (OutOfMemory("big"), "server_error", "insufficient_memory", None),
        (ServerBusy("busy"), "server_error", "server_busy", None),
        (openai.NotServed("later"), "not_supported_error", "not_supported", None),
        (_Status(401), "invalid_request_error", "invalid_api_key", None),
        (_Status(429), "rate_limit_error", "rate_limit_exceeded", None),
        (_Status(418), "invalid_request_error", None, None),
        (MullError("bug"), "server_error", None, None),
    ],
)
def test_errors_have_openais_form(failure, kind, code, param):
    assert openai.error(failure) == {
        "error": {"message": failure.message, "type": kind, "param": param, "code": code}
    }


def test_hints_are_part_of_the_message():
    told = openai.error(InvalidRequest("no", hint="yes"))["error"]
    assert told["message"] == "no (hint: yes)"
