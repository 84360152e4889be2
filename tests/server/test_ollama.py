"""Our events as Ollama's objects, one by one and joined."""

from __future__ import annotations

import re

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
)
from mull.errors import ModelNotFound, MullError
from mull.runtime.sampling.logprobs import TokenLogprob
from mull.runtime.thinking.plan import ThinkingReport
from mull.server.adapters import ollama

CALL = ToolCall("weather", {"city": "Oslo"}, "call12345")
REPORT = ThinkingReport(3, 12, 16, 0, "hard", 0, 1, 0, 0, 2.5)
EVENTS = [
    Progress(26, 26),
    Reasoning("so "),
    Reasoning("it is"),
    Text("an"),
    Text("swer"),
    ToolCallBegin(0, "call12345", "weather"),
    ToolArguments(0, '{"city"'),
    ToolCallEvent(CALL, 0),
    ToolCallEvent(CALL, 1),
    Done(USAGE, "stop", (5, 6), 42, Thinking(REPORT), prompt_ids=(1, 2)),
]


def streamed(chunks: ollama.Chunks, events=EVENTS) -> list[dict]:
    return [chunk for event in events for chunk in chunks.feed(event)]


def done(**fields: object) -> Done:
    return Done(USAGE, str(fields.pop("reason", "stop")), (5, 6), 42, **fields)


def test_a_chat_stream():
    lines = streamed(ollama.Chunks("m", chat=True))
    assert all(line["model"] == "m" for line in lines)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", line["created_at"]) for line in lines)
    assert [line["done"] for line in lines] == [False] * 6 + [True]
    assert [line["message"] for line in lines] == [
        {"role": "assistant", "content": "", "thinking": "so "},
        {"role": "assistant", "content": "", "thinking": "it is"},
        {"role": "assistant", "content": "an"},
        {"role": "assistant", "content": "swer"},
        *(
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "call12345",
                        "function": {"index": index, "name": "weather", "arguments": {"city": "Oslo"}},
                    }
                ],
            }
            for index in (0, 1)
        ),
        {"role": "assistant", "content": ""},
    ]


def test_the_end_says_what_it_cost():
    last = streamed(ollama.Chunks("m", chat=True))[-1]
    assert last["total_duration"] > 0
    assert {
        key: last[key]
        for key in last
        if key.endswith(("_count", "eval_duration", "load_duration", "_reason"))
    } == {
        "done_reason": "stop",
        "load_duration": 2_150_000_000,
        "prompt_eval_count": 26,
        "prompt_eval_duration": 383_800_000,
        "eval_count": 298,
        "eval_duration": 4_790_000_000,
        "thinking_count": 3,
        "thinking_reason": "hard",
    }
    assert (last["thinking_budget"], last["thinking_duration"]) == (12, 2_500_000)
    assert last["thinking_report"]["requested"] == 16
    assert "context" not in last


def test_a_whole_reply_is_the_stream_joined():
    lines = streamed(ollama.Chunks("m", chat=True))
    whole = ollama.Chunks("m", chat=True).whole(EVENTS)
    assert whole["message"] == {
        "role": "assistant",
        "content": "answer",
        "thinking": "so it is",
        "tool_calls": [call for line in lines for call in line["message"].get("tool_calls", [])],
    }
    own = ("message", "created_at", "total_duration")
    assert {k: v for k, v in whole.items() if k not in own} == {
        k: v for k, v in lines[-1].items() if k not in own
    }


def test_a_generate_stream():
    lines = streamed(ollama.Chunks("m", chat=False, context=True), [*EVENTS[:5], EVENTS[-1]])
    assert [(line.get("thinking", ""), line["response"]) for line in lines] == [
        ("so ", ""),
        ("it is", ""),
        ("", "an"),
        ("", "swer"),
        ("", ""),
    ]
    assert lines[-1]["context"] == [1, 2, 5, 6]
    whole = ollama.Chunks("m", chat=False, context=True).whole([*EVENTS[:5], EVENTS[-1]])
    assert (whole["response"], whole["thinking"], whole["context"]) == ("answer", "so it is", [1, 2, 5, 6])


def test_what_was_left_out_is_told():
    last = streamed(ollama.Chunks("m", chat=True), [done(truncated=Truncated(3, 200), conformity="valid")])[
        -1
    ]
    assert last["truncated"] == {"messages": 3, "tokens": 200}
    assert last["format_conformity"] == "valid"
    assert "thinking_report" not in last


def test_logprobs():
    drawn = TokenLogprob(1, -0.5, ((1, -0.5), (2, float("-inf"))))
    spell = {1: "é".encode(), 2: b"\xff"}.__getitem__
    events = [Reasoning("hm"), Text("é", (drawn,)), done(logprobs=(drawn,))]
    thought, piece, last = streamed(ollama.Chunks("m", chat=True, spell=spell), events)
    whole = ollama.Chunks("m", chat=True, spell=spell).whole(events)
    first = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    second = {"token": "\ufffd", "logprob": -9999.0, "bytes": [255]}
    assert piece["logprobs"] == whole["logprobs"] == [{**first, "top_logprobs": [first, second]}]
    assert "logprobs" not in {**thought, **last}


def test_errors():
    assert ollama.error(ModelNotFound("model 'x' not found", hint="did you mean y?")) == {
        "error": "model 'x' not found",
        "hint": "did you mean y?",
    }
    assert ollama.error(MullError("no", hint="--flag")) == {"error": "no"}
    assert list(ollama.Chunks("m", chat=True).fail(MullError("no"))) == [{"error": "no"}]
