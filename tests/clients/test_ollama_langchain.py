"""LangChain's client for Ollama against a live server."""

from __future__ import annotations

import warnings

import pytest
from fake_llm import FakeLLM
from mull.chat.message import ToolCall
from mull.chat.stream import Text, ToolCallEvent
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    langchain_ollama = pytest.importorskip("langchain_ollama", exc_type=ImportError)
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

# What the package warns of is no fault of the server.
pytestmark = pytest.mark.filterwarnings("default:::langchain_core", "default:::langchain_ollama")

QUESTION = "What is 347 + 685?"


@pytest.fixture
def make():
    """Return what makes clients, which are closed afterwards: make(class, address, fields…)."""
    made = []

    def one(kind, base_url: str, **fields: object):
        made.append(kind(model="pocket", base_url=base_url, temperature=0, **fields))
        return made[-1]

    yield one
    for client in made:
        client._client.close()


@pytest.fixture
def chat(live, make):
    """Return what makes a client of the live server: chat(fields…)."""
    return lambda **fields: make(langchain_ollama.ChatOllama, live.base_url, **fields)


def test_a_chat(chat):
    reply = chat(validate_model_on_init=True).invoke(QUESTION)
    assert reply.content == "1032"
    assert reply.usage_metadata["output_tokens"] == reply.response_metadata["eval_count"] > 5
    assert reply.response_metadata["done_reason"] == "stop"


def test_a_stream(chat):
    assert "".join(part.content for part in chat().stream(QUESTION)) == "1032"


def test_thinking(chat):
    thoughtful = chat(reasoning=True).invoke(QUESTION)
    assert thoughtful.additional_kwargs["reasoning_content"]
    assert thoughtful.content == "1032"
    assert "reasoning_content" not in chat(reasoning=False).invoke(QUESTION).additional_kwargs


def test_a_limit_and_stops(chat):
    assert chat(num_predict=3).invoke(QUESTION).response_metadata["eval_count"] == 3
    assert chat(stop=["3"]).invoke(QUESTION).content == "10"


def test_structured_output(chat):
    schema = {
        "title": "Answer",
        "type": "object",
        "properties": {"answer": {"type": "integer"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    found = chat().with_structured_output(schema, method="json_schema").invoke(QUESTION)
    assert isinstance(found["answer"], int)
    assert chat(format="json", num_predict=200).invoke(QUESTION).content.startswith("{")


def test_a_completion(live, make):
    plain = make(langchain_ollama.OllamaLLM, live.base_url)
    assert plain.invoke(QUESTION) == "1032"


def test_a_round_trip_through_a_tool(serve, server_settings, make):
    @tool
    def weather(city: str) -> str:
        """Tell the weather of a city."""
        return f"rain in {city}"

    call = ToolCallEvent(ToolCall("weather", {"city": "Oslo"}, "call12345"), 0)
    fake = FakeLLM([call], [Text("It rains.")])
    options = ServerOptions()
    server = serve(options, ModelPool(options, server_settings, opener=lambda *_: fake))
    chat = make(langchain_ollama.ChatOllama, server.base_url).bind_tools([weather])
    messages: list = [HumanMessage("How is the weather in Oslo?")]
    asks = chat.invoke(messages)
    [asked] = asks.tool_calls
    assert (asked["name"], asked["args"]) == ("weather", {"city": "Oslo"})
    messages += [asks, ToolMessage(weather.invoke(asked["args"]), tool_call_id=asked["id"])]
    assert chat.invoke(messages).content == "It rains."
    answered = fake.requests[1].messages
    assert answered[1].tool_calls[0].arguments == {"city": "Oslo"}
    assert (answered[2].role, answered[2].content) == ("tool", "rain in Oslo")
