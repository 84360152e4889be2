"""Messages and tool calls refuse what no template could render, and name the field."""

from __future__ import annotations

import subprocess
import sys

import pytest
from mull.chat.message import Message, ToolCall
from mull.errors import InvalidRequest


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_every_role_is_accepted(role):
    assert Message(role, "x").role == role


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Message("robot", "x"), "role"),
        (lambda: Message("user", None), "content"),
        (lambda: Message("user", "x", thinking="y"), "thinking"),
        (lambda: Message("tool", "x", tool_calls=(ToolCall("f"),)), "tool_calls"),
        (lambda: ToolCall(""), "tool_calls"),
        (lambda: ToolCall("f", "[1]"), "tool_calls"),
    ],
)
def test_what_cannot_be_is_refused_by_field(make, field):
    with pytest.raises(InvalidRequest) as caught:
        make()
    assert caught.value.field == field


def test_messages_cannot_change():
    with pytest.raises(AttributeError):
        Message("user", "x").content = "y"


def test_messages_and_requests_need_neither_torch_nor_jinja():
    code = "import sys, mull.chat.request; print({'torch', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
