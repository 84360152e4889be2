"""Schemas: what comes out of random logits satisfies them, and what could not be enforced is refused by name."""

import json
import random

import jsonschema
import pytest
from constrained import generate, small_tokenizer
from mull.errors import InvalidRequest
from mull.models import pocket
from mull.models.checkpoint.open import open_checkpoint
from mull.runtime.grammar.check import conformity
from mull.runtime.grammar.constraint import Constraint, parse_format
from mull.runtime.grammar.engine import GrammarEngine
from mull.runtime.grammar.processor import GrammarProcessor
from mull.runtime.tokenizer.load import load_tokenizer
from random_schemas import random_schema

NUM_SCHEMAS = 200


def state(schema, text):
    return conformity(text, parse_format(schema))


def check(schema, text):
    """Validate against the whole standard; the year 0 is a date in RFC 3339, but not in Python."""
    kind = jsonschema.Draft202012Validator
    try:
        kind(schema, format_checker=kind.FORMAT_CHECKER).validate(json.loads(text))
    except jsonschema.ValidationError as error:
        if not (error.validator == "format" and str(error.instance).startswith("0000")):
            raise


@pytest.fixture(scope="module")
def demo():
    with open_checkpoint(pocket.model_path()) as checkpoint:
        return load_tokenizer(checkpoint)


@pytest.mark.parametrize("vocabulary", ["small", "demo"])
def test_random_logits_satisfy_random_schemas(vocabulary, demo):
    tokenizer = demo if vocabulary == "demo" else small_tokenizer()
    engine = GrammarEngine(tokenizer)
    num_finished = num_refused = 0
    for seed in range(NUM_SCHEMAS):
        schema = random_schema(random.Random(seed))
        try:
            compiled = engine.compile(parse_format(schema))
        except InvalidRequest:
            num_refused += 1
            continue
        processor = GrammarProcessor(compiled, lambda: True, eos_ids=tokenizer.eos_ids)
        text, finished = generate(processor, tokenizer, seed)
        assert processor.failure is None
        expected = "valid" if processor.is_complete else "incomplete"
        assert state(schema, text) == expected, (schema, text)
        if finished:
            num_finished += 1
            check(schema, text)
    assert num_refused < NUM_SCHEMAS / 10
    assert num_finished > NUM_SCHEMAS * 0.8


def test_any_object_is_json(demo):
    compiled = GrammarEngine(demo).compile(Constraint("json"))
    for seed in range(5):
        processor = GrammarProcessor(compiled, lambda: True, eos_ids=demo.eos_ids)
        text, finished = generate(processor, demo, seed)
        assert not finished or isinstance(json.loads(text), dict)
    assert conformity('{"a": [1, {"b": null}]}', Constraint("json")) == "valid"
    assert conformity("[1]", Constraint("json")) == "invalid"
    assert conformity('{"a": [1', Constraint("json")) == "incomplete"


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"not": {"type": "string"}}, "'not'"),
        ({"if": {"type": "string"}, "then": {"minLength": 2}}, "'if'"),
        ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
        ({"type": "array", "contains": {"type": "string"}}, "'contains'"),
        ({"type": "array", "unevaluatedItems": False}, "'unevaluatedItems'"),
        ({"type": "object", "unevaluatedProperties": False}, "'unevaluatedProperties'"),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, "'dependentRequired'"),
        ({"type": "object", "dependencies": {"a": ["b"]}}, "'dependencies'"),
        ({"type": "object", "propertyNames": {"pattern": "a"}}, "'propertyNames'"),
        ({"$dynamicRef": "#a"}, "'\\$dynamicRef'"),
        ({"type": "string", "nullable": True}, "'nullable'"),
        ({"type": "string", "contentEncoding": "base64"}, "'contentEncoding'"),
        ({"type": "object", "requierd": ["a"]}, "'requierd'"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "'x-guidance'"),
        ({"type": "string", "format": "regex"}, "'format' with the value 'regex'"),
        ({"type": "integer", "format": "int32"}, "'format' with the value 'int32'"),
        ({"type": "array", "items": {}, "additionalItems": False}, "'additionalItems'"),
        ({"type": "object", "minProperties": 2}, "'minProperties'"),
        (
            {
                "type": "object",
                "patternProperties": {"a": {}},
                "additionalProperties": False,
                "minProperties": 1,
            },
            "min",
        ),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "'oneOf'"),
        ({"properties": {"a": {"items": [{"not": {}}]}}}, r"'not'.*at /properties/a/items/0"),
        ({"$ref": "#/x-more/a", "x-more": {"a": {"not": {}}}}, r"'not'.*at /x-more/a"),
        ({"$defs": {"unused": {"if": {}}}, "type": "string"}, r"'if'.*at /\$defs/unused"),
    ],
)
def test_keywords_that_cannot_be_enforced_are_named(schema, name):
    with pytest.raises(InvalidRequest, match=name) as caught:
        state(schema, "")
    assert caught.value.field == "format"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "strin"}, "Invalid type"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "Unsatisfiable"),
        ({"enum": []}, "Unsatisfiable"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "accepts nothing|Unsatisfiable"),
        ({"$ref": "#/$defs/absent"}, "absent"),
        ({"$ref": "https://example.com/schema.json"}, "example.com"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "string", "pattern": r"(a)\1"}, "backreferences"),
        ({"type": "string", "pattern": "("}, "unclosed group"),
        ({"type": "string", "minLength": "a"}, "minLength"),
        ({"properties": []}, "/properties must be an object"),
        ({"properties": {"a": 5}}, "/properties/a must be a schema"),
        ({"anyOf": {}}, "/anyOf must be a list"),
        ({"$ref": "#"}, "accepts nothing"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "accepts nothing"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "accepts nothing"),
        ({"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1}, "accepts nothing"),
        ({"anyOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}]}, "accepts nothing"),
        ({"items": json.loads('{"items":' * 300 + "{}" + "}" * 300)}, "nested more than"),
    ],
)
def test_schemas_that_are_wrong_or_accept_nothing_are_refused(schema, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        state(schema, "")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "additionalProperties": False},
        {"type": "array", "items": {"$ref": "#"}},
        {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}], "$defs": {"a": {"$ref": "#"}}},
        {"$schema": "http://json-schema.org/draft-04/schema#", "id": "x", "type": "object", "title": "t"},
        {"type": "number", "format": "double", "x-note": 1, "examples": [1], "deprecated": True},
        {"oneOf": [{"type": "string"}, {"type": "null"}], "discriminator": {"propertyName": "kind"}},
        {"type": "object", "minProperties": 1, "required": ["a"]},
    ],
)
def test_schemas_that_are_fine(schema):
    assert state(schema, "") == "incomplete"


def test_the_dialect_switches_nothing_off():
    old = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "prefixItems": [{"type": "string"}],
        "type": "array",
    }
    assert state(old, "[5]") == "invalid"
    assert state({**old, "prefixItems": [{"type": "integer"}]}, "[5]") == "valid"


def test_keys_have_one_spelling():
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    assert state(schema, '{"x": 1}') == "valid"
    assert state(schema, '{"na\\u006de": 5}') == "invalid"
    assert state(schema, '{"x": 1, "name": 5}') == "invalid"


def test_dates_are_in_the_calendar():
    for form, rest in (("date", ""), ("date-time", "T10:00:00Z")):
        schema = {"type": "string", "format": form}
        days = ["2024-02-29", "2000-02-29", "2023-02-28", "1999-12-31", "2023-01-29", "0004-02-29"]
        assert [state(schema, f'"{day}{rest}"') for day in days] == ["valid"] * len(days)
        assert [state(schema, f'"{day}{rest}"') for day in ("2023-02-29", "1900-02-29")] == ["invalid"] * 2
    both = {"type": "string", "format": "date", "pattern": "^2", "allOf": [{"pattern": "9$"}]}
    assert [state(both, f'"{day}"') for day in ("2024-02-29", "1999-12-29", "2024-02-28")] == [
        "valid",
        "invalid",
        "invalid",
    ]


def test_white_space_has_bounds():
    assert conformity('{\n  "a": [\n\t\t1, 2\r\n  ]\n}', Constraint("json")) == "valid"
    assert conformity('{"a":  1}', Constraint("json")) == "invalid"
    assert conformity("{" + " " * 100, Constraint("json")) == "invalid"
    assert conformity("{\n\n\n", Constraint("json")) == "invalid"
