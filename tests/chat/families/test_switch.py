"""Templates turn thinking on and off by variables of their own."""

from __future__ import annotations

import pytest
from mull.chat.families.switch import Switch, find_switch
from mull.chat.message import Message
from mull.chat.template import Template

REAL = {
    "Qwen-Qwen3-0.6B": {"enable_thinking": False},
    "deepseek-ai-DeepSeek-V3.1": {"enable_thinking": False, "thinking": False},
    "ibm-granite-granite-3.3-2B-Instruct": {"thinking": False},
    "ByteDance-Seed-OSS": {"thinking_budget": 0},
    "MiniMax-M3": {"thinking_mode": "disabled"},
    "tencent-Hy3": {"reasoning_effort": "no_think"},
    "Cohere2MoE": {"reasoning_effort": "none"},
    "upstage-Solar-Open-100B": {"reasoning_effort": "minimal"},
    "openai-gpt-oss-120b": {},
    "NVIDIA-Nemotron-Nano-v2": {},
    "Qwen-Qwen2.5-7B-Instruct": {},
}


@pytest.mark.parametrize("name", REAL)
def test_real_templates(shared_data, name):
    template = Template((shared_data / "templates" / f"{name}.jinja").read_text())
    assert template.switch.off == REAL[name]
    if template.switch.on:
        hello = [Message("user", "hi")]
        assert template.render(hello, think="on") != template.render(hello, think="off")


def test_a_word_the_template_does_not_know_is_not_passed():
    assert find_switch({"thinking_mode"}, {"fast"}) == Switch()
    assert find_switch({"reasoning_effort"}, {"medium"}).variables("on") == {}
    assert find_switch({"reasoning_effort"}, {"high", "none"}).on == {"reasoning_effort": "high"}


def test_a_level_is_passed_in_the_templates_own_words():
    switch = find_switch({"reasoning_effort"}, {"low", "medium", "high"})
    assert switch.variables("on", "minimal") == {**switch.on, "reasoning_effort": "low"}
    assert switch.variables("auto", "max") == {"reasoning_effort": "high"}
    assert find_switch({"reasoning_effort"}, {"max"}).variables("auto", "max") == {"reasoning_effort": "max"}


def test_a_number_is_passed_where_the_template_takes_one():
    assert find_switch({"thinking_budget"}, set()).variables("on", None, 512) == {"thinking_budget": 512}
    assert find_switch({"enable_thinking"}, set()).variables("on", None, 512) == {"enable_thinking": True}


def test_auto_passes_nothing():
    assert Switch({"a": 1}, {"a": 0}).variables("auto") == {}
    assert Switch({"a": 1}, {"a": 0}).variables("on") == {"a": 1}
