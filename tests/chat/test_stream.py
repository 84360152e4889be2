"""A reply gives the same events however its text is cut into pieces."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mull.chat.families.plain import PLAIN
from mull.chat.families.qwen3 import QWEN3
from mull.chat.message import ToolCall
from mull.chat.stream import (
    Reasoning,
    StreamParser,
    Text,
    ToolArguments,
    ToolCallBegin,
    ToolCallEvent,
    new_call_id,
)

THINKING = replace(QWEN3, open_tag="<think>", close_tag="</think>")
MISTRAL = replace(PLAIN, open_tag="[THINK]", close_tag="[/THINK]")
CHANNEL = replace(PLAIN, open_tag="<|channel>thought\n", close_tag="<channel|>")
INTERLEAVED = replace(THINKING, interleaved=True)


def parse(pieces, family=THINKING, opened=False, tools=False):
    """Return the events of a reply, neighbours of one kind joined."""
    ids = count()
    parser = StreamParser(
        family, opened=opened, tools=[] if tools else None, make_id=lambda: f"id{next(ids)}"
    )
    events = [event for piece in pieces for event in parser.feed(piece)] + parser.flush()
    joined = []
    for event in events:
        if isinstance(event, ToolCallBegin | ToolArguments):
            continue
        if isinstance(event, Text | Reasoning):
            assert event.text, "an empty event"
            if joined and type(joined[-1]) is type(event):
                joined[-1] = type(event)(joined[-1].text + event.text)
                continue
        joined.append(event)
    return joined


CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "</b>"}}\n</tool_call>'
F0 = ToolCallEvent(ToolCall("f", {"a": "</b>"}, "id0"))
F1 = ToolCallEvent(ToolCall("f", {"a": "</b>"}, "id1"), 1)

CASES = {
    # name: (reply, options, events)
    "an answer": ("Hello  \n there ", {}, [Text("Hello  \n there ")]),
    "leading space": ("\n  Hello", {}, [Text("\n  Hello")]),
    "only space": (" \n", {}, [Text(" \n")]),
    "nothing": ("", {}, []),
    "a thought": (
        "<think>\nI think\n hard.\n</think>\n\nYes.",
        {},
        [Reasoning("I think\n hard."), Text("Yes.")],
    ),
    "space before": ("\n <think>a</think> b", {}, [Reasoning("a"), Text("b")]),
    "opened by the template": ("a b\n</think>\n\nc", {"opened": True}, [Reasoning("a b"), Text("c")]),
    "opened twice": ("<think>\na</think>b", {"opened": True}, [Reasoning("a"), Text("b")]),
    "opened, then almost a tag": (
        "<thin air</think>b",
        {"opened": True},
        [Reasoning("<thin air"), Text("b")],
    ),
    "opened, then a mention": (
        "a <think> b</think>c",
        {"opened": True},
        [Reasoning("a <think> b"), Text("c")],
    ),
    "an empty thought": ("<think>\n\n</think>\n\nYes", {}, [Text("Yes")]),
    "an empty opened thought": ("\n</think>\nYes", {"opened": True}, [Text("Yes")]),
    "two thoughts": ("<think>a</think>\n<think>b</think>c", {}, [Reasoning("ab"), Text("c")]),
    "unclosed": ("<think>a b\n", {}, [Reasoning("a b\n")]),
    "unclosed within the tag": ("<think>a </thi", {}, [Reasoning("a </thi")]),
    "unopened": ("<thi", {}, [Text("<thi")]),
    "almost a tag": ("<think a>b</think>", {}, [Text("<think a>b</think>")]),
    "a tag amid an answer": ("Use <think> so.</think>", {}, [Text("Use <think> so.</think>")]),
    "a second close": ("<think>a</think>b</think>c", {}, [Reasoning("a"), Text("b</think>c")]),
    "interleaved": (
        "a <think>b</think> c<think>d</think>",
        {"family": INTERLEAVED},
        [Text("a"), Reasoning("b"), Text("c"), Reasoning("d")],
    ),
    "no tags in this family": ("<think>a</think>b", {"family": PLAIN}, [Text("<think>a</think>b")]),
    "brackets": ("[THINK]a [x][/THINK]b", {"family": MISTRAL}, [Reasoning("a [x]"), Text("b")]),
    "a tag with a line end": (
        "<|channel>thought\na<channel|>b",
        {"family": CHANNEL},
        [Reasoning("a"), Text("b")],
    ),
    "a tag with a line end, twice": (
        "<|channel>thought\na<channel|>b",
        {"family": CHANNEL, "opened": True},
        [Reasoning("a"), Text("b")],
    ),
    "a call": (CALL, {"tools": True}, [F0]),
    "calls": (f"Let me see. \n{CALL}\n{CALL}\n", {"tools": True}, [Text("Let me see."), F0, F1]),
    "a call, then text": (f"{CALL}\nDone. ", {"tools": True}, [F0, Text("Done. ")]),
    "a call after a thought": (f"<think>a</think>\n\n{CALL}", {"tools": True}, [Reasoning("a"), F0]),
    "a call within a thought": (f"<think>{CALL}</think>b", {"tools": True}, [Reasoning(CALL), Text("b")]),
    "a call nobody asked for": (CALL, {}, [Text(CALL)]),
    "a broken call": (
        "a\n<tool_call>{oops}</tool_call>\n b",
        {"tools": True},
        [Text("a\n<tool_call>{oops}</tool_call>\n b")],
    ),
    "a call of nothing": (
        "<tool_call>[1]</tool_call>",
        {"tools": True},
        [Text("<tool_call>[1]</tool_call>")],
    ),
    "an unclosed call": ('<tool_call>{"name": "f", "arguments": {"a": "</b>"}}', {"tools": True}, [F0]),
    "an unclosed broken call": (' <tool_call>{"name"', {"tools": True}, [Text(' <tool_call>{"name"')]),
    "arguments as text": (
        '<tool_call>{"name": "f", "arguments": "{\\"a\\": \\"</b>\\"}"}</tool_call>',
        {"tools": True},
        [F0],
    ),
    "no thought after a call": (f"{CALL}<think>a</think>", {"tools": True}, [F0, Text("<think>a</think>")]),
}


@pytest.mark.parametrize(("reply", "options", "events"), CASES.values(), ids=CASES)
def test_events(reply, options, events):
    assert parse([reply], **options) == events


@pytest.mark.parametrize(("reply", "options", "events"), CASES.values(), ids=CASES)
def test_every_cut_gives_the_same(reply, options, events):
    for at in range(len(reply) + 1):
        assert parse([reply[:at], reply[at:]], **options) == events, f"cut at {at}"
    assert parse(list(reply), **options) == events
    assert parse(["", *reply, ""], **options) == events


@given(
    st.lists(
        st.sampled_from(
            [
                "<think>",
                "</think>",
                "<tool_call>",
                "</tool_call>",
                "<",
                "</th",
                "\n",
                " ",
                "a",
                '{"name": "f"}',
                "é",
            ]
        ),
        max_size=12,
    ),
    st.data(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([THINKING, INTERLEAVED, PLAIN]),
)
def test_random_replies_do_not_depend_on_cuts(parts, data, opened, tools, family):
    reply = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=6)))
    pieces = [reply[a:b] for a, b in zip([0, *cuts], [*cuts, len(reply)], strict=True)]
    options = {"family": family, "opened": opened, "tools": tools}
    assert parse(pieces, **options) == parse([reply], **options)
    assert parse(list(reply), **options) == parse([reply], **options)


def test_only_what_may_become_a_tag_is_held_back():
    parser = StreamParser(THINKING, opened=True)
    assert parser.feed("a <b") == [Reasoning("a <b")]
    assert parser.feed(" c </th") == [Reasoning(" c")]
    assert parser.feed("x") == [Reasoning(" </thx")]
    assert parser.thinking
    assert parser.feed("</think>") == []
    assert not parser.thinking
    assert parser.feed("d <think") == [Text("d <think")]
    assert parser.flush() == []


def test_a_plain_family_holds_nothing_back():
    parser = StreamParser(PLAIN)
    assert parser.feed(" <think") == [Text(" <think")]
    assert parser.feed("> \n") == [Text("> \n")]


def test_ids_of_calls_are_such_as_templates_accept():
    ids = {new_call_id() for _ in range(50)}
    assert len(ids) > 40
    assert all(len(one) == 9 and one.isalnum() for one in ids)
