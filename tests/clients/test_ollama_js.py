"""Ollama's JavaScript client against a live server; skipped where node or the package is absent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_llm import FakeLLM
from mull.chat.message import ToolCall
from mull.chat.stream import Text, ToolCallEvent
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool

NODE = shutil.which("node")

TALK = """
const [model, options] = ['pocket', { temperature: 0 }];
const pocket = { model, messages: [{ role: 'user', content: 'What is 347 + 685?' }], options };
const out = {};
out.list = (await ollama.list()).models.map(model => model.name);
out.show = (await ollama.show({ model: 'pocket' })).details.family;
const whole = await ollama.chat(pocket);
out.chat = whole.message;
out.count = whole.eval_count;
out.stream = '';
for await (const part of await ollama.chat({ ...pocket, stream: true })) out.stream += part.message.content;
const properties = { answer: { type: 'integer' } };
const schema = { type: 'object', properties, required: ['answer'], additionalProperties: false };
out.format = (await ollama.chat({ ...pocket, format: schema })).message.content;
out.budget = await ollama.chat({ ...pocket, think: 8 });
out.generate = (await ollama.generate({ model, prompt: 'What is 2 + 3?', options })).response;
out.steps = [];
const steps = await ollama.create({ model: 'js', from: model, stream: true });
for await (const step of steps) out.steps.push(step.status);
await ollama.copy({ source: 'js', destination: 'js2' });
out.ps = (await ollama.ps()).models.map(model => model.name);
await ollama.delete({ model: 'js' });
await ollama.delete({ model: 'js2' });
try { await ollama.chat({ ...pocket, model: 'nope' }); }
catch (error) { out.missing = [error.status_code, error.message]; }
try { await ollama.chat({ ...pocket, options: { temperature: 'hot' } }); }
catch (error) { out.wrong = [error.status_code, error.message]; }
try { await ollama.embed({ model: 'pocket', input: 'x' }); } catch (error) { out.embed = error.status_code; }
const parts = await ollama.generate({ model: 'pocket', prompt: 'What is 347 + 685?', stream: true });
setTimeout(() => ollama.abort(), 0);
try { for await (const part of parts) ; out.aborted = 'ended'; } catch (error) { out.aborted = error.name; }
"""
TOOLS = """
const out = {};
const tools = [{ type: 'function', function: { name: 'weather', description: 'Tells the weather.',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } } }];
const messages = [{ role: 'user', content: 'How is the weather in Oslo?' }];
const asks = await ollama.chat({ model: 'pocket', messages, tools });
const call = asks.message.tool_calls[0].function;
messages.push(asks.message, { role: 'tool', tool_name: call.name, content: `rain in ${call.arguments.city}` });
out.answer = (await ollama.chat({ model: 'pocket', messages, tools })).message.content;
out.streamed = [];
for await (const part of await ollama.chat({ model: 'pocket', messages, tools, stream: true }))
    for (const call of part.message.tool_calls ?? []) out.streamed.push(call.function);
"""


@pytest.fixture
def run(tmp_path: Path):
    """Return what runs a script with the package's client for a server and returns its `out`."""
    if NODE is None:
        pytest.skip("needs node")
    home = _folder_of_packages()
    if home is None:
        pytest.skip("needs the npm package ollama: npm install ollama, and NODE_PATH at its node_modules")

    def run(base_url: str, script: str) -> dict:
        (tmp_path / "node_modules").symlink_to(home)
        head = f"import {{ Ollama }} from 'ollama';\nconst ollama = new Ollama({{ host: '{base_url}' }});\n"
        file = tmp_path / "talk.mjs"
        file.write_text(f"{head}{script}\nconsole.log(JSON.stringify(out));\n")
        done = subprocess.run([NODE, file], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def _folder_of_packages() -> Path | None:
    """Return the folder in which the package lies: one of NODE_PATH, or where npm puts what all may use."""
    folders = [Path(folder) for folder in os.environ.get("NODE_PATH", "").split(os.pathsep) if folder]
    folders += [Path("/usr/local/lib/node_modules"), Path("/usr/lib/node_modules")]
    return next((folder for folder in folders if (folder / "ollama" / "package.json").is_file()), None)


def test_the_clients_calls(live, run):
    out = run(live.base_url, TALK)
    assert "pocket:latest" in out["list"]
    assert out["show"] == "qwen3"
    assert out["chat"]["content"] == out["stream"] == "1032"
    assert out["chat"]["thinking"]
    assert out["count"] > 5
    assert isinstance(json.loads(out["format"])["answer"], int)
    assert 0 < out["budget"]["thinking_count"] <= 8
    assert out["generate"] == "5"
    assert out["steps"][-1] == "success"
    assert "pocket:latest" in out["ps"]
    assert out["missing"] == [404, "model 'nope' not found"]
    assert out["wrong"][0] == 400
    assert "temperature" in out["wrong"][1]
    assert out["embed"] == 501
    assert out["aborted"] in ("AbortError", "ended")


def test_a_round_trip_through_a_tool(serve, server_settings, run):
    call = ToolCallEvent(ToolCall("weather", {"city": "Oslo"}, "call12345"), 0)
    second = ToolCallEvent(ToolCall("weather", {"city": "Bergen"}, "call12346"), 1)
    fake = FakeLLM([call], [Text("It rains.")], [Text("Both."), call, second])
    options = ServerOptions()
    server = serve(options, ModelPool(options, server_settings, opener=lambda *_: fake))
    told = run(server.base_url, TOOLS)
    assert told["answer"] == "It rains."
    assert [(one["name"], one["arguments"]) for one in told["streamed"]] == [
        ("weather", {"city": "Oslo"}),
        ("weather", {"city": "Bergen"}),
    ]
    asked = fake.requests[1].messages
    assert (asked[2].tool_name, asked[2].content) == ("weather", "rain in Oslo")
