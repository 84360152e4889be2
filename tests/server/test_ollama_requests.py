"""Ollama's JSON as our requests: every field does something, is refused, or is told to do nothing."""

from __future__ import annotations

import json

import pytest
from mull.chat.message import Message, ToolCall
from mull.chat.request import ChatRequest
from mull.errors import InvalidName, InvalidRequest, ModelfileError, MullError, NotSupported
from mull.registry.modelfile import Command
from mull.runtime.grammar.constraint import Constraint
from mull.server.adapters import ollama_create, ollama_requests
from mull.server.adapters.ollama_fields import ChatBody, CreateBody, GenerateBody
from mull.server.bodies import parse_body, told

HI = [{"role": "user", "content": "hi"}]
DIGEST = "sha256:" + "a" * 64


def chat(**fields: object) -> ollama_requests.Asked:
    body = {"model": "m", "messages": HI, **fields}
    return ollama_requests.chat(parse_body(json.dumps(body).encode(), ChatBody))


def generate(**fields: object) -> ollama_requests.Asked:
    body = {"model": "m", "prompt": "hi", **fields}
    return ollama_requests.generate(parse_body(json.dumps(body).encode(), GenerateBody))


def create(**fields: object) -> list[Command]:
    body = parse_body(json.dumps({"model": "m", **fields}).encode(), CreateBody)
    return list(ollama_create.modelfile(body).commands)


def test_a_plain_chat():
    asked = chat()
    assert asked.chat == ChatRequest((Message("user", "hi"),))
    assert (asked.num_ctx, asked.keep_alive, asked.notes, asked.ignored) == (None, None, (), ())


def test_only_options_that_are_given_are_sent():
    given = {"temperature": 0, "top_k": 5, "num_ctx": 512, "seed": None, "stop": ["a"], "num_predict": -1}
    asked = chat(options=given)
    assert asked.chat.options == {"temperature": 0, "top_k": 5, "stop": ["a"], "num_predict": -1}
    assert asked.num_ctx == 512


def test_biases_and_stops_are_as_json_has_them():
    asked = chat(options={"logit_bias": {"17": -100, "3": 2.5}, "stop": "x"})
    assert asked.chat.options == {"logit_bias": {17: -100, 3: 2.5}, "stop": ["x"]}
    assert chat(options={"stop": ["", "x"]}).chat.options == {"stop": ["x"]}
    for options, field in (
        ({"logit_bias": {"a": 1}}, "options.logit_bias"),
        ({"logit_bias": {"1": "x"}}, "options.logit_bias"),
        ({"stop": 3}, "options.stop"),
        ({"stop": ["x"] * 129}, "options.stop"),
    ):
        with pytest.raises(InvalidRequest, match=field) as caught:
            chat(options=options)
        assert caught.value.field == field


def test_what_has_no_effect_is_told():
    asked = chat(options={"num_gpu": 1, "num_keep": 4, "tfs_z": 1.0}, zzz=1, top_logprobs=3)
    assert set(asked.ignored) == {
        "options.num_gpu",
        "options.num_keep",
        "options.tfs_z",
        "zzz",
        "top_logprobs",
    }
    odd = [{"role": "user", "content": "hi", "mood": "odd"}]
    assert chat(messages=odd).ignored == ("messages[0].mood",)


@pytest.mark.parametrize(
    ("think", "options"),
    [
        (True, {"think": True}),
        (False, {"think": False}),
        ("high", {"think": "high"}),
        ("25%", {"think": "25%"}),
        (64, {"think": 64}),
        ({"budget": 64, "min": 8}, {"think_budget": 64, "think_min": 8}),
        (None, {}),
    ],
)
def test_every_form_of_think(think, options):
    assert chat(think=think).chat.options == options
    assert generate(think=think).chat.options == options


def test_a_budget_wins_over_a_level_and_that_is_told():
    asked = chat(think="high", options={"think_budget": 7})
    assert asked.chat.options == {"think_budget": 7}
    assert asked.notes == ("the budget of 7 tokens is taken, not think high",)


@pytest.mark.parametrize("field", ["thinking", "think_budgt", "reasoning_effort", "thinking_budget"])
def test_a_misspelt_thinking_field_is_refused(field):
    with pytest.raises(InvalidRequest, match=field):
        chat(**{field: 5})


@pytest.mark.parametrize("think", ["deep", {"budgt": 1}, -5])
def test_a_bad_value_of_think_is_refused(think):
    with pytest.raises(InvalidRequest, match="think"):
        chat(think=think)


def test_format():
    schema = {"type": "object"}
    assert chat(format="json").chat.format == Constraint("json")
    assert chat(format=schema).chat.format == Constraint("schema", json.dumps(schema))
    assert chat(format="").chat.format is None
    with pytest.raises(InvalidRequest, match="format"):
        chat(format="yaml")


@pytest.mark.parametrize(
    ("fields", "overflow"),
    [({}, None), ({"truncate": True}, "oldest"), ({"truncate": False}, "error"), ({"shift": True}, "oldest"),
     ({"shift": True, "truncate": False}, "error"), ({"shift": False}, None)],
)  # fmt: skip
def test_what_becomes_of_a_long_conversation(fields, overflow):
    assert chat(**fields).chat.overflow == overflow


def test_logprobs():
    assert chat(logprobs=True).chat.options == {"logprobs": 0}
    assert chat(logprobs=True, top_logprobs=20).chat.options == {"logprobs": 20}
    for wrong in (-1, 21):
        with pytest.raises(InvalidRequest, match="top_logprobs must be between 0 and 20"):
            chat(logprobs=True, top_logprobs=wrong)


def test_tools_and_their_results():
    call = {"id": "c1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    asked = chat(
        tools=[{"type": "function", "function": {"name": "weather"}}],
        messages=[
            *HI,
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call]},
            {"role": "tool", "content": "rain", "tool_name": "weather"},
            {"role": "tool", "content": "snow", "tool_call_id": "c1"},
        ],
    )
    assert asked.chat.messages[1:] == (
        Message("assistant", "", thinking="hm", tool_calls=(ToolCall("weather", {"city": "Oslo"}, "c1"),)),
        Message("tool", "rain", tool_name="weather"),
        Message("tool", "snow", tool_name="weather", tool_call_id="c1"),
    )
    assert asked.chat.tools == ({"type": "function", "function": {"name": "weather"}},)


def test_arguments_may_be_json_text():
    def arguments(text: str) -> object:
        call = {"function": {"name": "f", "arguments": text}}
        return (
            chat(messages=[*HI, {"role": "assistant", "tool_calls": [call]}])
            .chat.messages[1]
            .tool_calls[0]
            .arguments
        )

    assert arguments('{"a": 1}') == {"a": 1}
    for wrong in ("{", "[1]", "5"):
        with pytest.raises(InvalidRequest, match="arguments"):
            arguments(wrong)


def test_a_plain_generate():
    assert generate(system="be brief").chat.messages == (Message("system", "be brief"), Message("user", "hi"))
    assert generate(raw=True).chat == ChatRequest(raw="hi")
    asked = generate(context=[1, 2], template="{{ messages[0].content }}")
    assert (asked.chat.context, asked.chat.template) == ((1, 2), "{{ messages[0].content }}")
    assert generate(system="", template="", suffix="", images=[]).chat == ChatRequest(
        (Message("user", "hi"),)
    )


def test_a_suffix_waits_for_the_model():
    asked = generate(suffix="end")
    assert (asked.suffix, asked.chat.raw) == ("end", "hi")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"raw": True, "system": "x"}, "raw mode does not support template, system, or context"),
        ({"raw": True, "template": "x"}, "raw mode does not support template, system, or context"),
        ({"raw": True, "context": [1]}, "raw mode does not support template, system, or context"),
        ({"images": ["aGk="]}, "registry.ollama.ai/library/m:latest does not support vision"),
        ({"model": ""}, "model is required"),
        ({"options": {"num_ctx": -1}}, "num_ctx"),
        ({"options": {"num_ctx": "big"}}, "num_ctx"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"context": ["a"]}, "context.0"),
    ],
)  # fmt: skip
def test_generate_refuses(fields, message):
    with pytest.raises(InvalidRequest, match=message):
        generate(**fields)


def test_chat_refuses_images_and_unknown_roles():
    with pytest.raises(NotSupported, match="library/m:latest does not support vision"):
        chat(messages=[{"role": "user", "content": "hi", "images": ["aGk="]}])
    with pytest.raises(InvalidRequest, match="unknown role 'robot'"):
        chat(messages=[{"role": "robot", "content": "hi"}])
    with pytest.raises(InvalidRequest, match="model is required"):
        chat(model="")


@pytest.mark.parametrize(
    ("value", "seconds"), [(0, 0), ("0", 0), (-1, -1), ("-1m", -1), ("5m", 300), (30, 30), ("1h30m", 5400)]
)
def test_without_a_prompt_the_model_is_loaded_or_unloaded(value, seconds):
    for asked in (generate(prompt="", keep_alive=value), chat(messages=[], keep_alive=value)):
        assert asked.chat is None
        assert asked.keep_alive == seconds


def test_create_from_a_model():
    commands = create(
        **{"from": "pocket"},
        system="be brief",
        template="{{ messages }}",
        license=["MIT", "BSD"],
        parameters={"temperature": 0.5, "stop": ["a", "b"], "use_mmap": True, "seed": None},
        messages=[{"role": "user", "content": "hi"}],
    )
    assert commands == [
        Command("from", ("pocket:latest",)),
        Command("template", ("{{ messages }}",)),
        Command("system", ("be brief",)),
        Command("license", ("MIT",)),
        Command("license", ("BSD",)),
        Command("parameter", ("temperature", "0.5")),
        Command("parameter", ("stop", "a")),
        Command("parameter", ("stop", "b")),
        Command("parameter", ("use_mmap", "true")),
        Command("message", ("user", "hi")),
    ]


def test_create_from_files():
    assert create(files={"b.gguf": DIGEST, "a.gguf": DIGEST}) == [
        Command("from", ("./a.gguf",)),
        Command("from", ("./b.gguf",)),
    ]
    assert create(files={"model.safetensors": DIGEST, "config.json": DIGEST}) == [Command("from", (".",))]
    adapter = create(**{"from": "pocket"}, adapters={"lora.gguf": DIGEST})
    assert adapter[1] == Command("adapter", ("./lora.gguf",))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "neither 'from' or 'files' was specified"),
        ({"from": "a", "files": {"a.gguf": DIGEST}}, "only one of"),
        ({"files": {"../a.gguf": DIGEST}}, "not the name of a model's file"),
        ({"files": {"a.gguf": "sha256:1"}}, "not a digest"),
        ({"from": "/etc/passwd"}, "invalid model name"),
        ({"from": "./a.gguf"}, "invalid model name"),
        ({"from": "a", "parameters": {"temprature": 1}}, "unknown parameter 'temprature'"),
        ({"from": "a", "parameters": {"seed": {"a": 1}}}, "seed"),
        ({"from": "a", "messages": [{"role": "tool", "content": "x"}]}, "message role must be one of"),
    ],
)  # fmt: skip
def test_create_refuses(fields, message):
    with pytest.raises((InvalidRequest, InvalidName, ModelfileError), match=message):
        create(**fields)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "missing request body"),
        (b"{", "invalid JSON"),
        (b"[]", "must be a JSON object"),
        (b"\xff", "invalid JSON"),
        (b'{"model": 5}', "model: must be a valid string"),
        (b'{"options": {"temperature": NaN}}', "NaN is no JSON number"),
        (b'{"messages": [{"content": "x"}]}', "messages.0.role: is missing"),
        (b'{"think": [1]}', "think: must be a valid boolean or string or integer or dictionary"),
        (b'{"model": "\\ud800"}', "surrogate"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "invalid JSON"),
    ],
)
def test_a_bad_body_is_refused(data, message):
    with pytest.raises(MullError, match=message) as caught:
        parse_body(data, ChatBody)
    assert caught.value.status == 400


def test_headers_stay_headers():
    headers = told(["a.b", "x\r\nSet-Cookie: y", "é"], ["a note – with a dash\r\n"])
    assert headers == {"X-Mull-Ignored": "a.b,?,?", "X-Mull-Note": "a note ? with a dash??"}
    assert told([]) == {}
    assert told(["a"] * 1000)["X-Mull-Ignored"].endswith(",...")
