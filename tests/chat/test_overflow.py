"""What is left out of a conversation that is too long: no more than needed, never the last turn, and it is counted."""

import pytest
from mull.chat.message import Message
from mull.chat.overflow import fit
from mull.chat.request import ChatRequest
from mull.chat.stream import Truncated


def conversation(turns: int, overflow: str | None, size: int = 10) -> ChatRequest:
    messages = [Message("system", "s" * 5)]
    for turn in range(turns):
        messages += [Message("user", f"{turn}".rjust(size)), Message("assistant", f"a{turn}".rjust(size))]
    return ChatRequest((*messages, Message("user", "last")), overflow=overflow)


def count(request: ChatRequest) -> int:
    return sum(len(message.content) for message in request.messages)


def test_what_fits_stays():
    request = conversation(3, "oldest")
    assert fit(request, count, 1000, None) == (request, None)


@pytest.mark.parametrize("overflow", [None, "error"])
def test_errors_are_left_to_the_caller(overflow):
    request = conversation(30, overflow)
    assert fit(request, count, 100, None) == (request, None)


def test_the_oldest_turns_go_first():
    shorter, truncated = fit(conversation(10, "oldest"), count, 100, 20)
    assert [m.content.strip() for m in shorter.messages] == ["s" * 5, "7", "a7", "8", "a8", "9", "a9", "last"]
    assert truncated == Truncated(messages=14, tokens=140)


def test_the_first_turn_stays_where_the_middle_goes():
    shorter, truncated = fit(conversation(10, "middle"), count, 100, 20)
    assert [m.content.strip() for m in shorter.messages] == ["s" * 5, "0", "a0", "8", "a8", "9", "a9", "last"]
    assert truncated == Truncated(messages=14, tokens=140)


@pytest.mark.parametrize("context", range(40, 240, 7))
@pytest.mark.parametrize("overflow", ["oldest", "middle"])
def test_as_few_as_need_be(overflow, context):
    request = conversation(10, overflow)
    shorter, truncated = fit(request, count, context, 4)
    dropped = 0 if truncated is None else truncated.messages // 2
    limit = context - 4
    if truncated is not None:
        assert truncated.tokens == count(request) - count(shorter) == 20 * dropped
        assert count(shorter) <= limit or count(shorter) < context
        assert count(shorter) + 20 > limit, "one turn fewer would have done"
    else:
        assert count(request) <= limit


def test_a_last_turn_that_is_too_long_alone_is_an_error_for_the_caller():
    request = ChatRequest(
        (Message("user", "a"), Message("assistant", "b"), Message("user", "c" * 99)), overflow="oldest"
    )
    assert fit(request, count, 50, None) == (request, None)


def test_a_tool_loop_is_one_turn():
    loop = (
        Message("user", "q" * 9),
        Message("assistant", "call"),
        Message("tool", "t" * 9),
        Message("assistant", "x"),
    )
    request = ChatRequest((*loop, Message("user", "last")), overflow="oldest")
    shorter, truncated = fit(request, count, 20, 4)
    assert [m.content for m in shorter.messages] == ["last"]
    assert truncated == Truncated(4, 23)
