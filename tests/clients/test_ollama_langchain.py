"""LangChain's client for Ollama against a live server."""

from __future__ import annotations

import warnings

import httpx
import ollama
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
        made.append(kind(**{"model": "pocket", "base_url": base_url, "temperature": 0, **fields}))
        return made[-1]

    yield one
    for client in made:
        client._client.close()


@pytest.fixture
def chat(live, make):
    """Return what makes a client of the live server: chat(fields…)."""
    return lambda **fields: make(langchain_ollama.ChatOllama, live.base_url, **fields)


def count_of(base_url: str, text: str) -> int:
    """Return the number of a text's tokens."""
    answer = httpx.post(f"{base_url}/tokenize", json={"model": "pocket", "content": text}, timeout=60)
    return len(answer.json()["tokens"])


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


@pytest.mark.parametrize("budget", [8, 24])
def test_a_thinking_budget_holds(chat, live, budget):
    reply = chat(reasoning=str(budget)).invoke(QUESTION)
    thought = count_of(live.base_url, reply.additional_kwargs["reasoning_content"])
    answer = count_of(live.base_url, reply.content)
    assert 0 < thought <= budget
    assert answer > 0
    # LangChain keeps no other count; the thought's two tags, what is around them, and the end count as well.
    assert thought + answer < reply.response_metadata["eval_count"] <= budget + answer + 5
    assert (
        reply.response_metadata["eval_count"]
        < chat(reasoning=True).invoke(QUESTION).response_metadata["eval_count"]
    )


def test_models_are_listed(chat):
    # The only list that there is: the client looks for its model among those of the server.
    assert "pocket:latest" in [
        found.model for found in chat(validate_model_on_init=True)._client.list().models
    ]
    # A client that is refused cannot be closed, its connections can.
    with httpx.HTTPTransport() as transport, pytest.raises(ValueError, match="not found in Ollama"):
        chat(model="nothing-here", validate_model_on_init=True, sync_client_kwargs={"transport": transport})


def test_embeddings_are_refused(live, make):
    embeddings = make(langchain_ollama.OllamaEmbeddings, live.base_url)
    with pytest.raises(ollama.ResponseError, match="not implemented") as caught:
        embeddings.embed_query("a text")
    assert caught.value.status_code == 501


def test_errors_are_the_clients_own(chat):
    with pytest.raises(ollama.ResponseError, match="nothing-here") as caught:
        chat(model="nothing-here").invoke(QUESTION)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="top_p") as caught:
        chat(top_p=5.0).invoke(QUESTION)
    assert caught.value.status_code == 400


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
