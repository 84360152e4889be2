"""A JSON answer for which little room is left is brought to its end, whatever the model would rather write."""

from __future__ import annotations

import json

import pytest
import torch
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Text
from mull.llm import LLM
from mull.runtime.grammar.constraint import parse_format
from mull.runtime.grammar.landing import Landing, StringState, landing_length

TOKENS = [b"a", b"b", b"{", b"}", b"[", b"]", b'"', b",", b":", b" ", b"7", b"\\", b"null", b'"}', b"\n "]
SPACES = [9, 14]


def choose(allowed: str | list[bytes], *, in_string: bool = False, turn: int = 0) -> set[bytes]:
    wanted = [bytes([char]) for char in allowed.encode()] if isinstance(allowed, str) else allowed
    words = torch.zeros(2, dtype=torch.int32)
    for text in wanted:
        words[0] |= 1 << TOKENS.index(text)
    kept = int(Landing(TOKENS, SPACES).choose(words, in_string=in_string, turn=turn)[0])
    return {text for token, text in enumerate(TOKENS) if kept >> token & 1}


@pytest.mark.parametrize(
    ("allowed", "kept"),
    [
        ('}",a', {b"}"}),
        ("]{", {b"]"}),
        ('"7{ ', {b'"'}),
        (",7 ", {b","}),
        ([b"null", b"{", b"7", b" "], {b"null", b"7"}),
        ("{[ ", {b"{", b"["}),
        (" ", {b" "}),
        ([], set()),
    ],
)
def test_outside_of_strings(allowed, kept):
    assert choose(allowed) == kept


@pytest.mark.parametrize(
    ("allowed", "turn", "kept"),
    [('ab}"', 0, {b'"'}), ("ab}", 0, {b"a"}), ("ab}", 1, {b"b"}), ("7]\\", 0, {b"7"}), ("\\", 0, {b"\\"})],
)
def test_within_strings(allowed, turn, kept):
    assert choose(allowed, in_string=True, turn=turn) == kept


@pytest.mark.parametrize(
    ("text", "is_open"),
    [('{"a', True), ('{"a"', False), ('"a\\"', True), ('"a\\\\"', False), ("\\", False), ('["é', True)],
)
def test_where_strings_begin_and_end(text, is_open):
    state = StringState()
    for byte in text.encode():
        state.feed(bytes([byte]))
    assert state.is_open == is_open


def test_what_is_kept_for_the_end():
    assert [landing_length(room) for room in (0, 3, 40, 100_000)] == [0, 0, 10, 96]


@pytest.fixture(scope="module")
def model():
    with LLM.open("pocket") as llm:
        yield llm


SCHEMAS = [
    {"type": "array", "items": {"type": "string", "pattern": "[ab]$"}, "minItems": 2, "maxItems": 9},
    {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
    {
        "$defs": {
            "n": {
                "anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 1}]
            }
        },
        "$ref": "#/$defs/n",
    },
    {"type": "object"},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=["patterns", "fields", "recursion", "anything"])
@pytest.mark.parametrize("seed", range(4))
def test_an_answer_is_whole_although_the_model_would_never_end_it(model, schema, seed):
    """Every token that could end something is made unlikely: only what is forced in the end ends it."""
    closing = {
        token: -30.0
        for token in range(model.tokenizer.vocab_size)
        if set(model.tokenizer.token_text(token)) & set('"]}')
    }
    options = {"num_predict": 160, "seed": seed, "temperature": 1.5, "logit_bias": closing, "think": "off"}
    request = ChatRequest((Message("user", "x"),), options=options, format=parse_format(schema))
    *events, done = model.chat(request)
    assert done.conformity == "valid"
    json.loads("".join(event.text for event in events if isinstance(event, Text)))
