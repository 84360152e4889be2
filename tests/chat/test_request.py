"""A chat request is checked once, when it is made."""

from __future__ import annotations

import pytest
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.errors import InvalidRequest

HELLO = (Message("user", "hi"),)


def test_defaults():
    request = ChatRequest(HELLO)
    assert (request.tools, request.think, dict(request.options), request.raw) == ((), None, {}, None)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"messages": ()}, "messages"),
        ({"messages": HELLO, "raw": "x"}, "raw"),
        ({"messages": HELLO, "tools": ("f",)}, "tools"),
    ],
)
def test_what_cannot_be_is_refused_by_field(arguments, field):
    with pytest.raises(InvalidRequest) as caught:
        ChatRequest(**arguments)
    assert caught.value.field == field


def test_an_empty_raw_prompt_is_a_prompt():
    assert ChatRequest(raw="").raw == ""
