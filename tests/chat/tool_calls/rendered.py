"""Calls of tools as real chat templates write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from mull.chat.families.detect import detect
from mull.chat.families.family import Family
from mull.chat.message import Message, ToolCall
from mull.chat.messages import MessageParser
from mull.chat.stream import (
    Event,
    Reasoning,
    ReplyParser,
    StreamParser,
    Text,
    ToolArguments,
    ToolCallBegin,
    ToolCallEvent,
)
from mull.chat.template import Template

TOOLS: list[dict[str, object]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tell the weather.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "where"},
                    "days": {"type": "integer"},
                    "sure": {"type": "boolean"},
                    "more": {"type": "object", "properties": {"deep": {"type": "array"}}},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "look-up",
            "description": "Look something up.",
            "parameters": {
                "type": "object",
                "properties": {"what": {"type": "string"}},
                "required": ["what"],
            },
        },
    },
]
CALLS = (
    ToolCall(
        "get_weather", {"city": 'São "Paulo"', "days": -3, "more": {"deep": [1, "x", 2.5]}}, "abc123def"
    ),
    ToolCall("look-up", {"what": "a < b & c\nd"}, "abc123deg"),
)


def parser(
    family: Family, *, tools: Sequence[dict[str, object]] | None = TOOLS, in_call: str | None = None
) -> ReplyParser:
    """Return a parser that numbers its calls."""
    ids = count()

    def make_id() -> str:
        return f"id{next(ids)}"

    if family.header_begins:
        return MessageParser(family, tools=tools, make_id=make_id)
    return StreamParser(family, tools=tools, in_call=in_call, make_id=make_id)


def parse(pieces: Sequence[str], make: Callable[[], ReplyParser]) -> list[Event]:
    """Return the events of a reply, neighbours of one kind joined; arguments are checked against their call."""
    made = make()
    joined: list[Event] = []
    for event in [event for piece in pieces for event in made.feed(piece)] + made.flush():
        last = joined[-1] if joined else None
        if isinstance(event, Text | Reasoning) and isinstance(last, type(event)):
            joined[-1] = type(event)(last.text + event.text)
        elif isinstance(event, ToolArguments) and isinstance(last, ToolArguments):
            assert last.index == event.index
            joined[-1] = ToolArguments(event.index, last.text + event.text)
        else:
            joined.append(event)
    check(joined)
    return joined


def check(events: Sequence[Event]) -> None:
    """Assert that the parts of every whole call are one another's."""
    for before, arguments, event in zip(events, events[1:], events[2:], strict=False):
        if isinstance(event, ToolCallEvent):
            assert isinstance(before, ToolCallBegin)
            assert isinstance(arguments, ToolArguments)
            assert (before.index, before.id, before.name) == (event.index, event.call.id, event.call.name)
            assert arguments.index == event.index
            assert json.loads(arguments.text) == event.call.arguments


def calls_of(events: Sequence[Event]) -> list[tuple[str, object]]:
    """Return the names and arguments of the whole calls."""
    return [(event.call.name, event.call.arguments) for event in events if isinstance(event, ToolCallEvent)]


def load(path: Path) -> tuple[Template, Family]:
    """Return a template and its family."""
    template = Template(path.read_text(), bos="<s>", eos="</s>", path_name=path.name)
    return template, detect(template.source, lambda text: None, "", template.switch)


def reply_of(template: Template, calls: Sequence[ToolCall]) -> str:
    """Return what a template makes of an assistant's calls, from where the model would begin."""
    asked = [Message("user", "QUESTION")]
    prompt = template.render(asked, TOOLS, add_generation_prompt=True)
    bare = template.render(asked, TOOLS, add_generation_prompt=False)
    whole = template.render(
        [*asked, Message("assistant", tool_calls=tuple(calls))], TOOLS, add_generation_prompt=False
    )
    shared = sum(1 for _ in _same(prompt, whole))
    if shared < len(prompt):  # the prompt may open a thought that the message does not have
        shared = max(whole.rfind(mark, 0, shared) for mark in ("\n<", "<|", "<", "[/INST]"))
    return whole[max(shared, sum(1 for _ in _same(bare, whole))) :]


def _same(first: str, second: str) -> Sequence[str]:
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return first[:index]
    return first[: min(len(first), len(second))]
