"""A prompt that ends within a thought is recognised, and only such a prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mull.chat.families.plain import PLAIN
from mull.chat.families.qwen3 import QWEN3

THINKING = replace(QWEN3, open_tag="<think>", close_tag="</think>")
CHANNEL = replace(PLAIN, open_tag="<|channel>thought\n", close_tag="<channel|>")


@pytest.mark.parametrize("end", ["<think>", "<think>\n", "a</think><think>\n\n"])
def test_opened(end):
    assert THINKING.template_opens(f"<|im_start|>assistant\n{end}")
    assert not PLAIN.template_opens(end)


@pytest.mark.parametrize("end", ["", "<think>\n\n</think>\n\n", "<think", "<think> so", "</think>"])
def test_not_opened(end):
    assert not THINKING.template_opens(f"<|im_start|>user\n<think>a</think>b<|im_start|>assistant\n{end}")


def test_a_tag_with_a_line_end():
    assert CHANNEL.template_opens("<|channel>thought\n")
    assert not CHANNEL.template_opens("<|channel>")
