"""A long conversation is computed once: the next turn costs what is new, in this process and after a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Text
from mull.llm import LLM
from mull.runtime.load_options import LoadOptions
from mull.settings import load_settings

TEMPLATE = (
    "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with room for 4,096 tokens, each a character."""
    network = tiny.build("qwen3")
    network.config.max_position_embeddings = 4096
    return tiny.write_gguf(network, "qwen3", tmp_path_factory.mktemp("long") / "long.gguf")


def turn(llm: LLM, messages: list[Message]) -> tuple[str, Done]:
    options = {"temperature": 0, "num_predict": 12, "ignore_eos": True}
    *events, done = llm.chat(ChatRequest(tuple(messages), template=TEMPLATE, options=options))
    return "".join(event.text for event in events if isinstance(event, Text)), done


@pytest.mark.parametrize("restarted", [False, True])
def test_the_second_turn_of_a_long_conversation_computes_what_is_new(model, tmp_path, restarted):
    settings = replace(load_settings(), cache_dir=tmp_path)
    options = LoadOptions(prompt_cache=1 << 30 if restarted else None)
    messages = [Message("user", "Rivers flow. " * 230)]
    with LLM.open(str(model), options, settings=settings) as llm:
        answer, done = turn(llm, messages)
        assert done.usage.prompt_tokens > 2990
        assert done.usage.cached_tokens == 0
        messages += [Message("assistant", answer), Message("user", "And lakes?")]
        if not restarted:
            _, done = turn(llm, messages)
    if restarted:
        with LLM.open(str(model), options, settings=settings) as llm:
            _, done = turn(llm, messages)
    computed = done.usage.prompt_tokens - done.usage.cached_tokens
    assert done.usage.prompt_tokens > 3000
    assert 0 < computed < 0.05 * done.usage.prompt_tokens
