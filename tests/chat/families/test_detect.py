"""The family of a model follows from its template and its vocabulary."""

from __future__ import annotations

import pytest
from mull.chat.families.detect import FAMILIES, detect
from mull.chat.families.switch import Switch
from mull.chat.message import Message
from mull.chat.template import Template


def vocabulary(*texts: str):
    return lambda text: texts.index(text) if text in texts else None


NONE = vocabulary()
THINK = vocabulary("<think>", "</think>")

REAL = {
    # template: (family, open tag, whether its generation prompt opens the thought when thinking is on)
    "Qwen-Qwen3-0.6B": ("qwen3", "<think>", False),
    "Qwen-QwQ-32B": ("qwen3", "<think>", True),
    "Qwen-Qwen2.5-7B-Instruct": ("qwen3", None, False),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ("qwen3", None, False),
    "Qwen3-Coder": ("qwen3-coder", None, False),
    "Qwen3.5-4B": ("qwen3-coder", "<think>", True),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("qwen3-coder", "<think>", True),
    "HuggingFaceTB-SmolLM3-3B": ("qwen3", "<think>", False),
    "meta-llama-Llama-3.1-8B-Instruct": ("llama3", None, False),
    "mistralai-Mistral-Nemo-Instruct-2407": ("mistral", None, False),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("magistral", "[THINK]", False),
    "google-gemma-2-2b-it": ("gemma", None, False),
    "google-gemma-4-31B-it": ("gemma4", "<|channel>thought\n", False),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": ("deepseek", "<think>", True),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": ("deepseek", "<think>", True),
    "deepseek-ai-DeepSeek-V3.1": ("deepseek-v3", "<think>", True),
    "ByteDance-Seed-OSS": ("seed", "<seed:think>", False),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("command-a", "<|START_THINKING|>", False),
    "Cohere2MoE": ("command-moe", "<|START_THINKING|>", True),
    "openai-gpt-oss-120b": ("harmony", "<|channel|>analysis<|message|>", False),
    "upstage-Solar-Open-100B": ("solar", "<|think|>", False),
    "moonshotai-Kimi-K2": ("kimi", None, False),
    "Kimi-K2-Thinking": ("kimi", "<think>", False),
    "MiniMax-M2": ("minimax", "<think>", True),
    "MiniMax-M3": ("minimax-m3", "<mm:think>", True),
    "inclusionai-ling-3.0-flash": ("ling3", "<think>", True),
    "Apriel-1.6-15b-Thinker-fixed": ("apriel", "Here are my reasoning steps:\n", True),
    "GLM-4.6": ("thinking", "<think>", False),
    "ibm-granite-granite-3.3-2B-Instruct": ("thinking", "<think>", False),
    "microsoft-Phi-3.5-mini-instruct": ("plain", None, False),
}


@pytest.mark.parametrize("name", REAL)
def test_real_templates(shared_data, name):
    source = (shared_data / "templates" / f"{name}.jinja").read_text()
    kind, open_tag, opens = REAL[name]
    template = Template(source)
    family = detect(source, NONE, "llama", template.switch)
    assert (family.name, family.open_tag) == (kind, open_tag)
    assert family.can_think == (open_tag is not None)
    assert family.template_opens(template.render([Message("user", "hi <think>")], think="on")) == opens


def test_a_template_without_tags_and_a_vocabulary_with_them():
    family = detect("<|im_start|>", THINK, "qwen3moe")
    assert (family.name, family.open_tag, family.close_tag) == ("qwen3", "<think>", "</think>")


def test_half_a_pair_of_tags_is_none():
    assert not detect("<|im_start|>", vocabulary("<think>"), "qwen2").can_think


def test_without_a_template_the_vocabulary_and_the_architecture_speak():
    assert detect(None, vocabulary("<|start_header_id|>"), "llama").name == "llama3"
    assert detect(None, vocabulary("<|im_start|>", "<think>", "</think>"), "qwen3").can_think
    assert detect(None, NONE, "gemma3").name == "gemma"
    assert detect(None, NONE, "mixtral").name == "mistral"
    assert detect(None, NONE, "llama").name == "plain"


def test_a_template_is_believed_before_the_architecture():
    assert detect("{{ messages }}", NONE, "gemma3").name == "plain"


def test_hermes_calls_in_another_format():
    family = detect("<|start_header_id|><tool_call>", NONE, "llama")
    assert (family.name, family.tool_open, family.tool_close) == ("llama3", "<tool_call>", "</tool_call>")


def test_the_switch_comes_along_only_where_there_are_thoughts():
    switch = Switch({"enable_thinking": True}, {"enable_thinking": False})
    assert detect("<think>", NONE, "llama", switch).switch == switch
    assert detect("x", NONE, "llama", switch).switch == Switch()


def test_families_are_told_apart():
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert family.marker
        assert detect(" ".join((family.marker, *family.more_markers)), NONE, "llama").name == family.name
        assert family.end_of_turn
        assert (family.tool_open is None) == (family.tool_close is None)
        assert bool(family.header_begins) == bool(family.header_ends) == bool(family.answer_marks)
        assert family.answer_header in family.forced_close
