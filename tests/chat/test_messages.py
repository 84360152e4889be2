"""Harmony and its kin: headers are not shown, thoughts are told from answers, however the text is cut."""

from __future__ import annotations

import pytest
from mull.chat.families.cohere import COMMAND_A
from mull.chat.families.family import Family
from mull.chat.families.harmony import HARMONY
from mull.chat.families.solar import SOLAR
from mull.chat.messages import MessageParser
from mull.chat.stream import Event, Reasoning, StreamParser, Text

_START = "<|start|>assistant"
_CALL = ' to=functions.f<|channel|>commentary <|constrain|>json<|message|>{"a": 1}'

CASES: dict[str, tuple[str, Family, bool, list[Event]]] = {
    "thought and answer": (
        f"<|channel|>analysis<|message|>so\n<|end|>{_START}<|channel|>final<|message|>Yes, it <b>is.",
        HARMONY,
        False,
        [Reasoning("so"), Text("Yes, it <b>is.")],
    ),
    "an answer at once": ("<|channel|>final<|message|>Yes.", HARMONY, False, [Text("Yes.")]),
    "an answer that the prompt has begun": ("Yes.", HARMONY, False, [Text("Yes.")]),
    "a prompt that ends within a thought": (
        f"so<|end|>{_START}<|channel|>final<|message|>Yes.",
        HARMONY,
        True,
        [Reasoning("so"), Text("Yes.")],
    ),
    "two thoughts": (
        f"<|channel|>analysis<|message|>a<|end|>{_START}<|channel|>analysis<|message|>b<|end|>"
        f"{_START}<|channel|>final<|message|>c",
        HARMONY,
        False,
        [Reasoning("ab"), Text("c")],
    ),
    "a call after a thought": (
        f"<|channel|>analysis<|message|>so<|end|>{_START}{_CALL}",
        HARMONY,
        False,
        [Reasoning("so")],
    ),
    "a call at once": (_CALL, HARMONY, False, []),
    "a call with its recipient last": (
        "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}",
        HARMONY,
        False,
        [],
    ),
    "words before a call": (
        f"<|channel|>commentary<|message|>I look.<|end|>{_START}{_CALL}",
        HARMONY,
        False,
        [Text("I look.")],
    ),
    "an answer in a format": (
        "<|channel|>final <|constrain|>json<|message|>{}",
        HARMONY,
        False,
        [Text("{}")],
    ),
    "cut off within a header": ("<|channel|>analysis<|message|>so<|end|><|sta", HARMONY, False, [Reasoning("so")]),
    "cut off within a thought": ("<|channel|>analysis<|message|>so", HARMONY, False, [Reasoning("so")]),
    "text that only looks like a header": ("<|char|> x < y", HARMONY, False, [Text("<|char|> x < y")]),
    "no end before a header": (
        f"<|channel|>analysis<|message|>so{_START}<|channel|>final<|message|>Yes.",
        HARMONY,
        False,
        [Reasoning("so"), Text("Yes.")],
    ),
    "a header without an end": ("<|start|>" + "x" * 500, HARMONY, False, [Text("<|start|>" + "x" * 500)]),
    "another family": (
        "<|think|>so<|end|><|begin|>assistant<|content|>Yes.",
        SOLAR,
        False,
        [Reasoning("so"), Text("Yes.")],
    ),
    "what surrounds an answer": (
        "<|START_THINKING|>so<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>",
        COMMAND_A,
        False,
        [Reasoning("so"), Text("Yes.")],
    ),
    "an answer in its surroundings": (
        "<|START_RESPONSE|>Yes < no.<|END_RESPONSE|>",
        COMMAND_A,
        False,
        [Text("Yes < no.")],
    ),
}  # fmt: skip


def parse(pieces: list[str], family: Family, *, opened: bool) -> list[Event]:
    """Return the events of a reply, neighbours of one kind joined."""
    make = MessageParser if family.header_begins else StreamParser
    parser = make(family, opened=opened)
    joined: list[Event] = []
    for event in [event for piece in pieces for event in parser.feed(piece)] + parser.flush():
        assert isinstance(event, Text | Reasoning)
        assert event.text
        if joined and type(joined[-1]) is type(event):
            joined[-1] = type(event)(joined[-1].text + event.text)
        else:
            joined.append(event)
    return joined


@pytest.mark.parametrize("name", CASES)
def test_what_is_shown_however_it_is_cut(name: str) -> None:
    text, family, opened, expected = CASES[name]
    assert parse([text], family, opened=opened) == expected
    assert parse(list(text), family, opened=opened) == expected
    for cut in range(1, len(text)):
        assert parse([text[:cut], text[cut:]], family, opened=opened) == expected


def test_a_parser_knows_when_it_is_within_a_thought() -> None:
    parser = MessageParser(HARMONY)
    states = []
    for piece in (
        "<|channel|>analysis<|message|>",
        "so",
        "<|end|>",
        f"{_START}<|channel|>final<|message|>",
        "Yes",
    ):
        parser.feed(piece)
        states.append(parser.thinking)
    assert states == [True, True, False, False, False]
