"""Formats as users write them: read exactly, or refused with a reason."""

import json

import pytest
from mull.errors import InvalidRequest
from mull.runtime.grammar.constraint import Constraint, parse_format, parse_grammar, parse_schema


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("json", Constraint("json")),
        (" json\n", Constraint("json")),
        ('{"type": "string"}', Constraint("schema", '{"type": "string"}')),
        ({"type": "string"}, Constraint("schema", '{"type": "string"}')),
        ("{}", Constraint("schema", "{}")),
        ("regex:[0-9]+ ", Constraint("regex", "[0-9]+ ")),
        ("regex:a:b,c", Constraint("regex", "a:b,c")),
        ("choice:yes, no", Constraint("choice", '["yes", "no"]')),
        ("choice:a\\,b,c,c", Constraint("choice", '["a,b", "c"]')),
        ('choice:["a, b", " c"]', Constraint("choice", '["a, b", " c"]')),
        ("choice:[a],b", Constraint("choice", '["[a]", "b"]')),
        ("choice:é,東京,🙂", Constraint("choice", '["é", "東京", "🙂"]')),
    ],
)
def test_formats_are_read(value, expected):
    assert parse_format(value) == expected
    assert hash(parse_format(value)) == hash(expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "unknown format ''"),
        ("yaml", "unknown format 'yaml'"),
        ("JSON", "unknown format"),
        (5, "a format must be"),
        (None, "a format must be"),
        (["json"], "a format must be"),
        ("regex:", "the regular expression is empty"),
        ("regex:" + "a" * 10_001, "longer than 10000"),
        ("choice:", "nothing to choose from"),
        ("choice:[]", "nothing to choose from"),
        ("choice:a,,b", "must not be empty"),
        ('choice:["a", ""]', "must not be empty"),
        ('{"type": }', "line 1, column 10"),
        ('{"a": 1,\n "b": tru}', "line 2, column 7"),
        ('{"minimum": NaN}', "NaN is no JSON number"),
        ('{"a":' * 200_000, "nested too deeply|longer than|is not valid JSON"),
        ('{"minimum": ' + "9" * 5000 + "}", "number that is too long"),
        ({"minimum": float("inf")}, "is not JSON"),
        ({"a": object()}, "is not JSON"),
    ],
)
def test_what_is_no_format_is_refused(value, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        parse_format(value)
    assert caught.value.field == "format"


def test_a_schema_must_be_an_object_and_may_begin_with_a_mark():
    assert parse_schema('\ufeff{"type": "null"}').kind == "schema"
    with pytest.raises(InvalidRequest, match=r"person\.json must be a JSON object"):
        parse_schema("[1]", "person.json")
    with pytest.raises(InvalidRequest, match=r"person\.json is not valid JSON.*line 1, column 1"):
        parse_schema("", "person.json")


def test_grammars_are_told_apart():
    assert parse_grammar('root ::= "a"').kind == "gbnf"
    assert parse_grammar('start: "a"').kind == "lark"
    assert parse_grammar('start: "a" // not root ::= "a"').kind == "lark"
    assert parse_grammar("nonsense", "x.gbnf").kind == "gbnf"
    assert parse_grammar('start: "::="', "x.lark").kind == "lark"
    with pytest.raises(InvalidRequest, match="the grammar is empty"):
        parse_grammar(" \n")


def test_the_choices_of_a_choice():
    assert parse_format("choice:b,a,b").choices == ["b", "a"]
    assert json.loads(parse_format("choice:b,a").text) == ["b", "a"]
