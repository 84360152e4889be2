"""OpenAI's Responses: items as our messages, a reply as items that open, fill and close."""

from __future__ import annotations

import pytest
from fake_llm import USAGE
from mull.chat.message import Message, ToolCall
from mull.chat.stream import Done, Reasoning, Text, ToolArguments, ToolCallBegin, ToolCallEvent
from mull.errors import InvalidRequest, MullError, NotSupported
from mull.runtime.grammar.constraint import Constraint
from mull.runtime.sampling.logprobs import TokenLogprob
from mull.server.adapters import openai, responses
from mull.server.adapters.responses_events import Writer
from mull.server.adapters.responses_fields import ResponsesBody
from mull.server.routes.responses import Kept

CALL = ToolCall("weather", {"city": "Oslo"}, "c1")
EVENTS = [
    Reasoning("so"),
    Reasoning(" what"),
    Text("Let me "),
    Text("see."),
    ToolCallBegin(0, "c1", "weather"),
    ToolArguments(0, '{"city":'),
    ToolArguments(0, ' "Oslo"}'),
    ToolCallEvent(CALL, 0),
]


def ask(given="hi", before=(), **fields):
    body = ResponsesBody.model_validate({"model": "m", "input": given, **fields})
    return responses.request(body, "resp_1", before)


def done(reason="stop", **fields):
    return Done(USAGE, reason, (5, 6), 42, **fields)


def write(events, **options):
    writer = Writer("resp_1", "m", ask().echo, **options)
    return [told for event in events for told in writer.feed(event)], writer


def test_text_is_the_users():
    asked = ask()
    assert asked.chat.messages == (Message("user", "hi"),)
    assert asked.chat.options == {}
    assert asked.chat.id == "resp_1"


def test_fields_become_ours():
    asked = ask(
        instructions="Be brief.", max_output_tokens=9, temperature=0.5, top_k=3, reasoning={"effort": "low"},
        truncation="auto", user="ann", frobnicate=1, top_logprobs=2, num_ctx=99,
        text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "array"}}, "verbosity": "low"},
        tools=[{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}],
        tool_choice={"type": "function", "name": "weather"}, parallel_tool_calls=False,
    )  # fmt: skip
    chat = asked.chat
    assert chat.messages == (Message("system", "Be brief."), Message("user", "hi"))
    assert chat.options == {"temperature": 0.5, "num_predict": 9, "top_k": 3, "think": "low", "logprobs": 2}
    assert chat.format == Constraint("schema", '{"type": "array"}')
    assert chat.tools[0]["function"]["name"] == "weather"
    assert (chat.tool_choice, chat.forced_tool, chat.parallel_tool_calls) == ("required", "weather", False)
    assert chat.overflow == "oldest"
    assert asked.common.num_ctx == 99
    assert asked.common.ignored == ["frobnicate"]
    assert asked.conversation == (Message("user", "hi"),)


def test_a_thinking_budget_by_any_name():
    assert ask(thinking_budget=20).chat.options == {"think_budget": 20}
    assert ask(reasoning={"max_tokens": 20}).chat.options == {"think_budget": 20}


def test_items_become_turns():
    asked = ask(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Oslo?"}]},
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "hm"}],
            },
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I ask."}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Oslo"}'},
            {"type": "function_call", "call_id": "c2", "name": "clock", "arguments": ""},
            {"type": "function_call_output", "call_id": "c1", "output": "cold"},
            {
                "type": "function_call_output",
                "call_id": "c2",
                "output": [{"type": "input_text", "text": "noon"}],
            },
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "well"}]},
            {"role": "assistant", "content": "Cold."},
            {"role": "assistant", "content": "Very."},
        ]
    )
    assert asked.chat.messages == (
        Message("system", "Be brief."),
        Message("user", "Oslo?"),
        Message("assistant", "I ask.", thinking="hm", tool_calls=(CALL, ToolCall("clock", {}, "c2"))),
        Message("tool", "cold", tool_name="weather", tool_call_id="c1"),
        Message("tool", "noon", tool_name="clock", tool_call_id="c2"),
        Message("assistant", "Cold.", thinking="well"),
        Message("assistant", "Very."),
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"given": []}, "messages"),
        ({"given": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        (
            {"given": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0]",
        ),
        ({"given": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        (
            {"given": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}]},
            "input[0].arguments",
        ),
        ({"given": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"given": [{"type": "function_call_output", "call_id": "c", "output": 3}]}, "input[0].output"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"reasoning": {"efort": "low"}}, "reasoning.efort"),
        ({"top_p": 3}, "top_p"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields, field):
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.field == field


def test_a_stream_of_events():
    told, writer = write([*EVENTS, done()])
    kinds = [kind for kind, _ in told]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for _, event in told] == list(range(len(told)))
    assert all(event["type"] == kind for kind, event in told)
    items = [event["item"] for kind, event in told if kind == "response.output_item.done"]
    assert items == writer.response["output"]
    assert [item["status"] for item in items] == ["completed"] * 3
    assert [item["type"] for item in items] == ["reasoning", "message", "function_call"]
    assert items[2]["arguments"] == '{"city": "Oslo"}'
    assert told[0][1]["response"]["status"] == "in_progress"
    assert told[0][1]["response"]["output"] == []


def test_a_stream_says_where_each_piece_belongs():
    told, writer = write([*EVENTS, done()])
    ids = [item["id"] for item in writer.response["output"]]
    for kind, event in told:
        if "item_id" in event:
            assert event["item_id"] == ids[event["output_index"]], kind


def test_a_whole_response():
    _, writer = write([*EVENTS, done()])
    response = writer.response
    assert response["status"] == "completed"
    assert response["usage"] == {
        "input_tokens": 26,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 298,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 324,
    }
    assert writer.turn() == Message("assistant", "Let me see.", thinking="so what", tool_calls=(CALL,))


def test_a_call_that_came_whole():
    told, writer = write([ToolCallEvent(CALL), done()])
    assert [kind for kind, _ in told].count("response.function_call_arguments.delta") == 1
    assert writer.response["output"][0]["arguments"] == '{"city": "Oslo"}'


def test_a_call_that_proves_broken_comes_as_text():
    told, writer = write([*EVENTS[4:6], Text("raw"), done(tool_errors=("no JSON",))])
    assert [item["type"] for item in writer.response["output"]] == ["message"]
    assert writer.response["tool_errors"] == ["no JSON"]
    assert writer.turn() == Message("assistant", "raw")
    ends = [event["item"]["status"] for kind, event in told if kind == "response.output_item.done"]
    assert ends == ["completed", "incomplete"]


def test_what_was_cut_off_is_incomplete():
    told, writer = write([Text("x"), done("length")])
    assert told[-1][0] == "response.incomplete"
    assert writer.response["status"] == "incomplete"
    assert writer.response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert writer.response["output"][0]["status"] == "incomplete"


def test_a_thought_where_its_summary_would_be():
    told, writer = write([Reasoning("so"), Text("x"), done()], summarizes=True)
    kinds = [kind for kind, _ in told]
    assert kinds[3:7] == [
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
    ]
    assert writer.response["output"][0]["summary"] == [{"type": "summary_text", "text": "so"}]
    assert writer.turn().thinking == "so"


def test_thoughts_can_be_left_out():
    _, writer = write([Reasoning("so"), Text("x"), done()], shows_thinking=False)
    assert [item["type"] for item in writer.response["output"]] == ["message"]


def test_logprobs_stand_beside_the_text():
    reports = (TokenLogprob(1, -0.5, ((1, -0.5),)),)
    told, writer = write([Text("x", reports), done(logprobs=reports)], token_bytes=lambda token: b"x")
    [delta] = [fields for kind, fields in told if kind == "response.output_text.delta"]
    [part] = writer.response["output"][0]["content"]
    assert part["logprobs"][0]["token"] == "x"
    assert part["logprobs"][0]["top_logprobs"][0]["logprob"] == -0.5
    assert delta["logprobs"] == part["logprobs"]


def test_a_failure_on_the_way():
    writer = Writer("resp_1", "m", {})
    list(writer.feed(Text("x")))
    told = list(writer.fail(MullError("broken")))
    assert [kind for kind, _ in told] == ["error", "response.failed"]
    assert told[0][1]["message"] == "broken"
    assert writer.response["error"] == {"code": "server_error", "message": "broken"}


def test_the_latest_responses_are_kept_and_the_oldest_go():
    kept = Kept(most=2, most_characters=100)
    for number in range(3):
        kept.add({"id": f"r{number}"}, (Message("user", "x" * 20),))
    assert kept.conversation("r2") == (Message("user", "x" * 20),)
    with pytest.raises(openai.ResponseNotFound) as caught:
        kept.response("r0")
    assert caught.value.status == 404
    kept.add({"id": "long"}, (Message("user", "x" * 90),))
    assert kept.response("long") == {"id": "long"}
    with pytest.raises(openai.ResponseNotFound):
        kept.response("r2")
    kept.remove("long")
    kept.add({"id": "r3"}, (Message("user", "x" * 90),))
    kept.add({"id": "r4"}, (Message("user", "x" * 10),))
    assert kept.response("r3") == {"id": "r3"}


def test_a_conversation_is_continued():
    asked = ask(
        "and now?", before=(Message("user", "hi"), Message("assistant", "ho")), instructions="Be brief."
    )
    assert [message.content for message in asked.chat.messages] == ["Be brief.", "hi", "ho", "and now?"]
    assert [message.content for message in asked.conversation] == ["hi", "ho", "and now?"]


def test_images_are_refused_in_words():
    with pytest.raises(NotSupported, match="takes text only, no images"):
        ask([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}])
