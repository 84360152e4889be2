"""Requests of OpenAI's dialect: what each field becomes, and what is refused and how."""

from __future__ import annotations

import json
import math

import pytest
from mull.chat.message import Message, ToolCall
from mull.errors import InvalidRequest, NotSupported
from mull.runtime.grammar.constraint import Constraint
from mull.server.adapters import openai_chat, openai_completions
from mull.server.adapters.openai_fields import ChatBody, CompletionBody
from mull.server.bodies import parse_body
from pydantic import ValidationError

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
LIST = Constraint("schema", '{"type": "array"}')
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}


def chat(*messages, **fields):
    """Translate a request with one choice."""
    body = {"model": "m", "messages": list(messages) or [{"role": "user", "content": "hi"}], **fields}
    found, common = openai_chat.requests(ChatBody.model_validate(body), "id")
    return found[0], common


def options(**fields):
    return chat(**fields)[0].options


def completion(**fields):
    return openai_completions.requests(CompletionBody.model_validate({"model": "m", **fields}), "id")


def test_a_request_sets_no_option_that_it_does_not_hold():
    request, common = chat()
    assert request.options == {}
    assert request.messages == (Message("user", "hi"),)
    assert (request.tools, request.format, request.tool_choice, request.overflow) == ((), None, "auto", None)
    assert common.ignored == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0.3, "top_p": 0.5}, {"temperature": 0.3, "top_p": 0.5}),
        ({"max_tokens": 7}, {"num_predict": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 9}, {"num_predict": 9}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"stop": ["x", "", "y"]}, {"stop": ["x", "y"]}),
        ({"seed": 5}, {"seed": 5}),
        ({"presence_penalty": 1, "frequency_penalty": -1.5}, {"presence_penalty": 1, "frequency_penalty": -1.5}),
        ({"logit_bias": {"17": -100, "3": 2.5}}, {"logit_bias": {17: -100, 3: 2.5}}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 4}, {"logprobs": 4}),
        ({"logprobs": False}, {"logprobs": False}),
        ({"top_k": 3, "min_p": 0.1, "repeat_penalty": 1.2}, {"top_k": 3, "min_p": 0.1, "repeat_penalty": 1.2}),
        ({"mirostat": 2, "xtc_probability": 0.5}, {"mirostat": 2, "xtc_probability": 0.5}),
        ({"samplers": ["top_k", "temperature"]}, {"samplers": ["top_k", "temperature"]}),
        ({"ignore_eos": True, "repeat_stop": 5}, {"ignore_eos": True, "repeat_stop": 5}),
        ({"options": {"top_k": 3, "stop": "a"}}, {"top_k": 3, "stop": ["a"]}),
        ({"options": {"logit_bias": {"4": 1}}}, {"logit_bias": {4: 1}}),
        ({"options": {"temperature": 1.5, "num_predict": 3}, "temperature": 0, "max_tokens": 4},
         {"temperature": 0, "num_predict": 4}),
        ({"temperature": None, "stop": None, "logit_bias": None, "n": None, "tools": None}, {}),
        ({"reasoning_effort": "high"}, {"think": "high"}),
        ({"reasoning_effort": "none"}, {"think": "off"}),
        ({"reasoning": {"max_tokens": 200}}, {"think_budget": 200}),
        ({"thinking_budget": 64}, {"think_budget": 64}),
        ({"thinking_budget_tokens": 64}, {"think_budget": 64}),
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"think": False}),
        ({"think": {"budget": 12, "message": "Enough."}}, {"think_budget": 12, "think_message": "Enough."}),
        ({"options": {"think_budget": 12}}, {"think_budget": 12}),
        ({"options": {"think_budget": 12}, "think_budget": 13}, {"think_budget": 13}),
    ],
)  # fmt: skip
def test_fields_become_options(fields, expected):
    assert options(**fields) == expected


def test_max_tokens_wins_over_num_predict_by_whatever_order():
    assert options(num_predict=3, max_tokens=4) == {"num_predict": 4}


def test_what_says_how_the_model_is_loaded_and_kept():
    _, common = chat(num_ctx=512, keep_alive="5m")
    assert (common.num_ctx, common.keep_alive) == (512, "5m")
    assert chat(options={"num_ctx": 256})[1].num_ctx == 256
    assert chat(options={"num_ctx": 256}, num_ctx=512)[1].num_ctx == 512
    assert chat(overflow="oldest")[0].overflow == "oldest"


def test_unknown_fields_are_told_and_empty_ones_are_not():
    _, common = chat(
        {"role": "user", "content": "hi", "name": "ann"},
        user="ann", metadata={}, service_tier=None, frobnicate=1, options={"num_gpu": 3, "top_k": 2},
        chat_template_kwargs={"enable_thinking": True, "style": "x"},
    )  # fmt: skip
    assert set(common.ignored) == {
        "user", "frobnicate", "options.num_gpu", "chat_template_kwargs.style", "messages.name"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"seed": 2**64}, "seed"),
        ({"stop": ["x"] * 129}, "stop"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"options": {"num_ctx": "big"}}, "options.num_ctx"),
        ({"options": {"stop": 3}}, "options.stop"),
        ({"options": {"logit_bias": [1]}}, "options.logit_bias"),
        ({"options": {"temperature": "hot"}}, "temperature"),
        ({"samplers": 5}, "samplers"),
        ({"dry_sequence_breakers": 5}, "dry_sequence_breakers"),
        ({"thinking_bugdet": 5}, "thinking_bugdet"),
        ({"options": {"think_bugdet": 5}}, "think_bugdet"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"functions": [{"name": "x"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_object"}, "grammar": 'root ::= "a"'}, "grammar"),
        ({"reasoning_format": "none"}, "reasoning_format"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields, field):
    with pytest.raises(InvalidRequest) as caught:
        chat(**fields)
    assert caught.value.field == field
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": "1"}, {"max_tokens": "7"}, {"max_tokens": 7.5}, {"n": 0}, {"n": 129}, {"stream": "yes"},
        {"messages": []}, {"messages": [{"role": "robot", "content": "x"}]}, {"messages": "hi"}, {"stop": [1]},
        {"logprobs": 3}, {"logprobs": True, "top_logprobs": 21}, {"response_format": {"type": "xml"}},
        {"tools": {}}, {"logit_bias": {"1": "x"}}, {"num_ctx": 0}, {"seed": True},
    ],
)  # fmt: skip
def test_wrong_types_are_refused(fields):
    with pytest.raises(ValidationError):
        chat(**fields)


def test_a_conversation_of_every_role():
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    request, _ = chat(
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "cold"},
        {"role": "assistant", "content": "", "refusal": "no", "reasoning": "well"},
    )
    assert request.messages == (
        Message("system", "Be brief."),
        Message("user", "a\nb"),
        Message("assistant", "", thinking="hm", tool_calls=(ToolCall("weather", {"city": "Oslo"}, "c1"),)),
        Message("tool", "cold", tool_name="weather", tool_call_id="c1"),
        Message("assistant", "no", thinking="well"),
    )


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": ["text"]}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"role": "user", "content": "x", "tool_calls": [{"function": {"name": "f"}}]}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a":'}}]},
         "messages[0].tool_calls[0].function.arguments"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]},
         "messages[0].tool_calls[0].function.arguments"),
    ],
)  # fmt: skip
def test_messages_that_cannot_be_read_are_refused_by_place(message, field):
    with pytest.raises(InvalidRequest) as caught:
        chat(message)
    assert caught.value.field == field


def test_images_are_refused_in_words():
    with pytest.raises(NotSupported, match="takes text only, no images"):
        chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]})


def test_tools_and_which_must_be_called():
    request, _ = chat(tools=[WEATHER, CLOCK])
    assert request.tools == (WEATHER, CLOCK)
    assert (request.tool_choice, request.forced_tool, request.parallel_tool_calls) == ("auto", None, True)
    assert chat(tools=[WEATHER], tool_choice="none")[0].tool_choice == "none"
    assert chat(tools=[WEATHER], tool_choice="required")[0].tool_choice == "required"
    named = {"type": "function", "function": {"name": "clock"}}
    request, _ = chat(tools=[WEATHER, CLOCK], tool_choice=named, parallel_tool_calls=False)
    assert (request.tool_choice, request.forced_tool) == ("required", "clock")
    assert not request.parallel_tool_calls


def test_allowed_tools_leave_the_others_out():
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "clock"}}]}
    request, _ = chat(tools=[WEATHER, CLOCK], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert request.tools == (CLOCK,)
    assert request.tool_choice == "required"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Constraint("json")),
        ({"response_format": {"type": "json_object", "schema": {"type": "array"}}}, LIST),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}}, LIST),
        ({"response_format": {"type": "json_schema", "schema": {"type": "array"}}}, LIST),
        ({"format": "json"}, Constraint("json")),
        ({"format": {"type": "array"}}, LIST),
        ({"format": "regex:[0-9]+"}, Constraint("regex", "[0-9]+")),
        ({"json_schema": {"type": "array"}}, LIST),
        ({"grammar": 'root ::= "a"'}, Constraint("gbnf", 'root ::= "a"')),
    ],
)  # fmt: skip
def test_formats_in_everybodys_words(fields, expected):
    assert chat(**fields)[0].format == expected


def test_each_choice_has_its_own_id_and_seed():
    body = ChatBody.model_validate(
        {"messages": [{"role": "user", "content": "x"}], "n": 3, "seed": 2**64 - 1}
    )
    found, _ = openai_chat.requests(body, "chatcmpl-1")
    assert [one.id for one in found] == ["chatcmpl-1", "chatcmpl-1-1", "chatcmpl-1-2"]
    assert [one.options["seed"] for one in found] == [2**64 - 1, 0, 1]


def test_without_a_seed_each_choice_draws_its_own():
    body = ChatBody.model_validate({"messages": [{"role": "user", "content": "x"}], "n": 2})
    assert [one.options for one in openai_chat.requests(body, "i")[0]] == [{}, {}]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", [("a", ())]),
        (["a", "b"], [("a", ()), ("b", ())]),
        ([5, 6], [("", (5, 6))]),
        ([[5], [6, 7]], [("", (5,)), ("", (6, 7))]),
    ],
)
def test_prompts_are_texts_or_tokens(prompt, expected):
    found, _ = completion(prompt=prompt)
    assert [(one.raw, one.context) for _, one in found] == expected


def test_every_prompt_is_answered_n_times():
    found, _ = completion(prompt=["a", "b"], n=2, max_tokens=3)
    assert [(number, one.raw) for number, one in found] == [(0, "a"), (0, "a"), (1, "b"), (1, "b")]
    assert all(one.options == {"num_predict": 3} for _, one in found)
    assert len({one.id for _, one in found}) == 4


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 3}, "best_of"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo"),
        ({"prompt": ["a"] * 65, "n": 2}, "n"),
    ],
)
def test_completions_that_cannot_be_made_are_refused(fields, field):
    with pytest.raises(InvalidRequest) as caught:
        completion(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": 0}, "n: must be greater than or equal to 1"),
        ({"n": "x"}, "n: must be a valid integer"),
        ({"messages": []}, "messages: list should have at least 1 item"),
        ({"stop": 5}, "stop: must be a valid string or list"),
    ],
)
def test_what_is_wrong_with_a_field_is_said_in_a_sentence(fields: dict, message: str):
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], **fields}).encode()
    with pytest.raises(InvalidRequest, match=message):
        parse_body(body, ChatBody)
