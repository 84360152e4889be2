"""Every syntax of calls: any arguments come back however the reply is cut; forced calls are read back."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jsonschema
import pytest
from constrained import generate, small_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from mull.chat.families.family import Family
from mull.chat.families.harmony import HARMONY as HARMONY_FAMILY
from mull.chat.families.plain import PLAIN
from mull.chat.families.qwen3 import QWEN3
from mull.chat.families.solar import SOLAR as SOLAR_FAMILY
from mull.chat.message import ToolCall
from mull.chat.stream import Reasoning, Text, ToolArguments, ToolCallBegin, ToolCallEvent
from mull.chat.tool_calls import gemma, json_calls, minimax_m3, named, pythonic, tagged
from mull.chat.tool_calls.detect import _MARKERS
from mull.chat.tool_calls.grammar import required, triggered
from mull.chat.tool_calls.syntax import Syntax
from mull.runtime.grammar.engine import GrammarEngine
from mull.runtime.grammar.processor import GrammarProcessor, TriggeredProcessor

from .rendered import calls_of, parse, parser

SYNTAXES: dict[str, Syntax] = {syntax.name: syntax for _, syntax in _MARKERS} | {
    one.name: one for one in (json_calls.PLAIN_JSON, pythonic.TOOL_CODE)
}
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "num": {"type": "integer", "minimum": -99, "maximum": 99},
        "kind": {"enum": ["red", "blue"]},
        "flag": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
    },
    "required": ["text", "num", "kind"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "paint", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "wait", "parameters": {"type": "object", "properties": {}}}},
]


def family_of(syntax: Syntax) -> Family:
    """Return a family that writes a syntax."""
    family = {"harmony": HARMONY_FAMILY, "solar": SOLAR_FAMILY}.get(syntax.name, PLAIN)
    return replace(family, tools=syntax)


def make_of(syntax: Syntax, tools=TOOLS):
    in_call = syntax.opens[0] if syntax.in_prompt else None
    return partial(parser, family_of(syntax), tools=tools, in_call=in_call)


def cuts_of(text: str, rng: random.Random) -> list[str]:
    places = sorted(rng.randint(0, len(text)) for _ in range(rng.randint(1, 12)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc \"\\é", max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([one for one in SYNTAXES.values() if one.body]),
    st.lists(
        st.dictionaries(st.text("abc_", min_size=1, max_size=4), _JSON, max_size=3), min_size=1, max_size=3
    ),
    st.integers(0, 2**32),
)
def test_any_arguments_come_back_however_they_are_cut(syntax, arguments, seed):
    assert syntax.frame is not None
    if not syntax.frame.several:
        arguments = arguments[:1]
    text = syntax.text([ToolCall("paint", one) for one in arguments]) or ""
    events = parse([text], make_of(syntax))
    assert calls_of(events) == [("paint", one) for one in arguments]
    rng = random.Random(seed)
    assert parse(cuts_of(text, rng), make_of(syntax)) == events
    broken = list(text)
    for _ in range(rng.randint(1, 3)):
        del broken[rng.randrange(len(broken))]
    whole = parse(["".join(broken)], make_of(syntax))
    assert parse(cuts_of("".join(broken), rng), make_of(syntax)) == whole


def fitting(syntax: Syntax, seed: int) -> Sequence[tuple[str, object]]:
    """Draw a reply from the grammar of a syntax's calls; return the calls that are read from it."""
    made = required(syntax, TOOLS, lambda text: [text], several=bool(seed % 3))
    assert made is not None
    assert not made.notes
    tokenizer = small_tokenizer()
    compiled = GrammarEngine(tokenizer).compile(made.constraint)
    processor = GrammarProcessor(compiled, lambda: True, eos_ids=tokenizer.eos_ids)
    text, ended = generate(processor, tokenizer, seed, most=1000)
    events = parse([text], make_of(syntax))
    assert parse(list(text), make_of(syntax)) == events
    if not ended:
        return []
    assert not any(isinstance(event, Text | Reasoning) for event in events), text
    return calls_of(events)


@pytest.mark.parametrize("name", [name for name, one in SYNTAXES.items() if one.is_writable])
def test_a_forced_call_is_read_back_and_keeps_to_its_schema(name):
    num_read = 0
    for seed in range(12):
        for tool, arguments in [] if num_read > 3 else fitting(SYNTAXES[name], seed):
            if tool == "paint":
                jsonschema.validate(arguments, SCHEMA)
            else:
                assert (tool, arguments) == ("wait", {})
            num_read += 1
    assert num_read


CALL = '{"name": "paint", "arguments": {"text": "a"}}'
MENDED = {
    "a bracket too few": f"<tool_call>{CALL[:-1]}</tool_call>",
    "a bracket too many": f"<tool_call>\n{CALL}}}\n</tool_call>",
    "a comma before a bracket": '<tool_call>{"name": "paint", "arguments": {"text": "a",},}</tool_call>',
    "parameters": '<tool_call>{"name": "paint", "parameters": {"text": "a"}}</tool_call>',
    "the name last": '<tool_call>{"arguments": {"text": "a"}, "name": "paint"}</tool_call>',
    "OpenAI's form": f'<tool_call>{{"type": "function", "function": {CALL}}}</tool_call>',
    "a list": f"<tool_call>[{CALL}]</tool_call>",
    "no end": f"<tool_call>{CALL}",
    "an id": '<tool_call>{"id": 7, "name": "paint", "arguments": {"text": "a"}}</tool_call>',
}


@pytest.mark.parametrize("name", MENDED)
def test_what_is_plainly_meant_is_a_call(name):
    for pieces in ([MENDED[name]], list(MENDED[name])):
        assert calls_of(parse(pieces, make_of(json_calls.HERMES))) == [("paint", {"text": "a"})]


def test_texts_are_mended():
    text = '<tool_call>{"name": "f", "arguments": {"a": "1\n2\\d\\\'", "b": True, "c": None}}</tool_call>'
    found = calls_of(parse(list(text), make_of(json_calls.HERMES)))
    assert found == [("f", {"a": "1\n2\\d'", "b": True, "c": None})]


BROKEN = {
    "no name": '<tool_call>{"arguments": {}}</tool_call>',
    "no object": '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
    "a number that is none": '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>',
    "half a character": '<tool_call>{"name": "f", "arguments": {"a": "\\ud83d"}}</tool_call>',
    "too deep": '<tool_call>{"name": "f", "arguments": {"a": ' + "[" * 5000 + "}</tool_call>",
    "an endless number": '<tool_call>{"name": "f", "arguments": {"a": ' + "1" * 5000 + "}}</tool_call>",
    "arguments twice": '<tool_call>{"name": "f", "arguments": {}, "arguments": {}}</tool_call>',
    "cut off": '<tool_call>{"name": "f", "arguments": {"a": "b',
    "text": "<tool_call>f(a)</tool_call>",
    "nothing": "<tool_call></tool_call>",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_call_comes_back_as_it_was_and_says_why(name):
    text = f"I call. {BROKEN[name]} Done."
    if name == "cut off":
        text = text.removesuffix(" Done.")
    for pieces in ([text], list(text)):
        events = parse(pieces, make_of(json_calls.HERMES))
        assert "".join(event.text for event in events if isinstance(event, Text)) == text
        assert not calls_of(events)
    made = make_of(json_calls.HERMES)()
    made.feed(text)
    made.flush()
    assert len(made.tool_errors) == 1


def test_one_broken_call_does_not_take_the_others_along():
    text = f'<tool_call>{CALL}</tool_call>\n<tool_call>{{"name": "f", "arguments": 1}}</tool_call>\n<tool_call>{CALL}'
    events = parse(list(text), make_of(json_calls.HERMES))
    assert len(calls_of(events)) == 2
    assert [event.index for event in events if isinstance(event, ToolCallEvent)] == [0, 2]
    assert (
        "".join(event.text for event in events if isinstance(event, Text))
        .strip()
        .startswith('<tool_call>{"name": "f"')
    )


def test_arguments_come_as_they_are_written():
    made = make_of(json_calls.HERMES)()
    assert made.feed('<tool_call>\n{"name": "paint"') == [ToolCallBegin(0, "id0", "paint")]
    assert made.feed(', "arguments": {"text": "On') == [
        ToolArguments(0, piece) for piece in ("{", '"', "text", '"', ": ", '"', "On")
    ]
    assert made.feed("ce") == [ToolArguments(0, "ce")]
    made = make_of(tagged.QWEN3_CODER)()
    made.feed("<tool_call>\n<function=paint>\n<parameter=text>\n")
    assert made.feed('say "hi"\n') == [ToolArguments(0, 'say \\"hi\\"')]
    assert made.feed("</p") == []
    assert made.feed("!") == [ToolArguments(0, "\\n</p!")]


TYPED = [
    # types, what is written, what is meant
    ("string", "3", "3"),
    ("string", "null", "null"),
    ("integer", "3", 3),
    ("integer", "3.0", 3),
    ("integer", "three", "three"),
    ("number", "1e3", 1000.0),
    ("boolean", "True", True),
    ("object", "{'a': [1, None]}", {"a": [1, None]}),
    (["string", "null"], "null", None),
    (["string", "null"], "7", "7"),
    (None, "[1, 2]", [1, 2]),
    (None, "plain words", "plain words"),
]


@pytest.mark.parametrize(("types", "written", "meant"), TYPED)
def test_a_value_in_tags_is_what_the_schema_says(types, written, meant):
    schema = {} if types is None else {"type": types}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": schema}}}}]
    text = f"<tool_call>\n<function=f>\n<parameter=a>\n{written}\n</parameter>\n</function>\n</tool_call>"
    found = calls_of(parse(list(text), make_of(tagged.QWEN3_CODER, tools)))
    assert json.dumps(found) == json.dumps([("f", {"a": meant})])


OTHER = {
    "deepseek without a block": (
        named.DEEPSEEK_V3,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>",
    ),
    "mistral without its mark": (named.MISTRAL, "[TOOL_CALLS]f{}"),
    "llama with its tag": (json_calls.LLAMA3, '<|python_tag|>{"name": "f", "parameters": {}}'),
    "two of llama": (json_calls.LLAMA3, '{"name": "paint", "parameters": {}}; {"name": "wait", "parameters": {}}'),
    "coder without a tag around": (tagged.QWEN3_CODER, "<function=f>\n</function>"),
    "function gemma": (gemma.FUNCTION_GEMMA, "<start_function_call>call:f{a:<escape>b<escape>,c:1}<end_function_call>"),
    "python": (pythonic.TOOL_CODE, "```tool_code\nf(a='it\\'s', b=[1, 'x, )'], c=None)\n```"),
    "nested tags": (
        minimax_m3.MINIMAX_M3,
        "]<]minimax[>[<tool_call>]<]minimax[>[<invoke name=\"f\">]<]minimax[>[</invoke>]<]minimax[>[</tool_call>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_other_forms_that_models_write(name):
    syntax, text = OTHER[name]
    expected = {
        "two of llama": [("paint", {}), ("wait", {})],
        "function gemma": [("f", {"a": "b", "c": 1})],
        "python": [("f", {"a": "it's", "b": [1, "x, )"], "c": None})],
    }.get(name, [("f", {})])
    for pieces in ([text], list(text)):
        assert calls_of(parse(pieces, make_of(syntax))) == expected


def test_json_that_is_an_answer_is_no_call():
    for text in (
        '{"name": "Ann", "age": 7}',
        '{"a": 1}',
        "{",
        '{"name": "paint"}',
        '{"name": "paint", "colour": 1}',
    ):
        for pieces in ([text], list(text)):
            assert parse(pieces, make_of(json_calls.LLAMA3)) == [Text(text)]


def test_a_call_ends_a_thought_where_the_family_says_so():
    family = replace(QWEN3, open_tag="<think>", close_tag="</think>", tools=json_calls.HERMES)
    text = f"<think>I call.\n<tool_call>{CALL}</tool_call>"
    kept = parse(list(text), partial(parser, family))
    assert kept == [Reasoning(text.removeprefix("<think>"))]
    ended = parse(list(text), partial(parser, replace(family, tool_ends_thought=True)))
    assert ended[0] == Reasoning("I call.")
    assert calls_of(ended) == [("paint", {"text": "a"})]


@pytest.mark.parametrize("several", [False, True])
def test_a_call_that_begins_is_held_to_its_schema(several):
    made = triggered(json_calls.HERMES, TOOLS, lambda text: [text], several=several)
    assert made is not None
    tokenizer = small_tokenizer()
    compiled = GrammarEngine(tokenizer).compile(made.constraint).after(made.trigger or "", once=made.once)
    for seed in range(6):
        processor = TriggeredProcessor(compiled, lambda: True, eos_ids=tokenizer.eos_ids)
        begun = "Sure < so. <tool_call>"
        for token in tokenizer.encode(begun, special=False):
            processor.accept(token)
        text, ended = generate(processor, tokenizer, seed)  # type: ignore[arg-type]
        calls = calls_of(parse([begun + text], make_of(json_calls.HERMES)))
        if ended and not several:
            assert len(calls) == 1
            assert text.endswith("</tool_call>")
        if "</tool_call>" in text:
            assert calls
            assert calls[0][0] in ("paint", "wait")
            jsonschema.validate(calls[0][1], SCHEMA if calls[0][0] == "paint" else {"type": "object"})


def test_thoughts_do_not_trigger_anything():
    import torch

    made = triggered(json_calls.HERMES, TOOLS, lambda text: [text], several=True)
    assert made is not None
    tokenizer = small_tokenizer()
    compiled = GrammarEngine(tokenizer).compile(made.constraint).after("<tool_call>")
    thinking = True
    processor = TriggeredProcessor(compiled, lambda: not thinking, eos_ids=tokenizer.eos_ids)
    for token in tokenizer.encode("<tool_call>", special=False):
        processor.accept(token)
    thinking = False
    free = torch.zeros(tokenizer.vocab_size)
    assert (processor.apply(free.clone()) == free).all()
    for token in tokenizer.encode("<tool_call>", special=False):
        processor.accept(token)
    assert (processor.apply(free.clone()) == -torch.inf).any()
