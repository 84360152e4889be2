"""OpenAI's own JavaScript client against live servers; NODE_PATH says where the package is."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_llm import FakeLLM
from mull.chat.message import ToolCall
from mull.chat.stream import Text, ToolArguments, ToolCallBegin, ToolCallEvent
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool

CALLS = [
    ToolCallBegin(0, "call12345", "weather"),
    ToolArguments(0, '{"city": '),
    ToolArguments(0, '"Oslo"}'),
    ToolCallEvent(ToolCall("weather", {"city": "Oslo"}, "call12345"), 0),
]


@pytest.fixture(scope="module")
def node() -> str:
    """The program; skip where it or the package is absent."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("needs node")
    if subprocess.run([found, "-e", "require.resolve('openai')"], capture_output=True).returncode:
        pytest.skip("needs the npm package openai: npm install openai, and NODE_PATH")
    return found


def test_the_javascript_client(node, live, serve, server_settings):
    fake = FakeLLM(CALLS, [Text("It is cold.")], CALLS)
    scripted = serve(ServerOptions(), ModelPool(ServerOptions(), server_settings, opener=lambda *_: fake))
    script = Path(__file__).with_name("openai_client.cjs")
    done = subprocess.run([node, script, live.base_url, scripted.base_url], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "pocket:latest" in told["models"]
    assert (told["chat"]["content"], told["chat"]["reason"]) == ("1032", "stop")
    assert told["chat"]["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    for part in ("content", "thought"):
        assert told["stream"][part] == told["chat"][part]
    assert told["stream"]["usage"]["completion_tokens"] == told["chat"]["usage"]["completion_tokens"]
    assert 0 < told["budget"] <= 12
    assert isinstance(told["structured"]["sum"], int)
    assert told["response"] == {"text": "1032", "status": "completed"}
    assert told["responseStream"] == {"text": "1032", "last": "response.completed"}
    assert told["embeddings"]["status"] == 501
    assert "not supported yet" in told["embeddings"]["message"]
    assert (told["unknownModel"]["kind"], told["unknownModel"]["code"]) == (
        "NotFoundError",
        "model_not_found",
    )
    assert (told["badTemperature"]["kind"], told["badTemperature"]["status"]) == ("BadRequestError", 400)
    assert told["tools"]["call"]["function"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert (told["tools"]["reason"], told["tools"]["answer"]) == ("tool_calls", "It is cold.")
    assert json.loads(told["toolStream"]["arguments"]) == {"city": "Oslo"}
