"""Answers that keep to a format: the thought stays free, the answer does not, in one request and in batches."""

from __future__ import annotations

import json
import random

import jsonschema
import pytest
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Reasoning, Text
from mull.errors import InvalidRequest
from mull.llm import LLM
from mull.models import pocket
from mull.runtime.grammar.check import conformity
from mull.runtime.grammar.constraint import parse_format, parse_grammar
from random_schemas import random_schema

SCHEMA = {
    "type": "object",
    "properties": {
        "answer": {"type": "integer", "minimum": 0, "maximum": 9999},
        "unit": {"enum": ["none", "metre"]},
    },
    "required": ["answer", "unit"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model():
    with LLM.open(str(pocket.model_path())) as llm:
        yield llm


def ask(form, question="What is 347 + 685?", **options):
    constraint = parse_format(form) if not hasattr(form, "kind") else form
    options = {"num_predict": 300, "seed": 1, **options}
    return ChatRequest((Message("user", question),), options=options, format=constraint)


def gather(events):
    events = list(events)
    assert isinstance(events[-1], Done)
    thought = "".join(event.text for event in events if isinstance(event, Reasoning))
    return thought, "".join(event.text for event in events if isinstance(event, Text)), events[-1]


@pytest.mark.parametrize("options", [{}, {"think": 12}, {"think": "off"}, {"temperature": 0}], ids=str)
def test_the_thought_is_free_and_the_answer_is_not(model, options):
    thought, answer, done = gather(model.chat(ask(SCHEMA, **options)))
    assert done.reason == "stop"
    assert done.conformity == "valid"
    jsonschema.validate(json.loads(answer), SCHEMA)
    assert bool(thought) == (options.get("think") != "off")
    if not thought:
        usage = done.usage
        new = usage.prompt_tokens - usage.cached_tokens
        wrong = usage.drafted_tokens - usage.accepted_tokens
        assert usage.forwarded_tokens == new + usage.completion_tokens - 1 + wrong


def test_a_thought_is_the_same_with_and_without_a_format(model):
    free, _, _ = gather(model.chat(ChatRequest(ask("json").messages, options={"temperature": 0})))
    bound, answer, _ = gather(model.chat(ask("choice:yes,no,maybe", temperature=0)))
    assert free == bound
    assert answer.strip() in ("yes", "no", "maybe")


def test_an_answer_that_is_cut_says_so(model):
    _, answer, done = gather(model.chat(ask("regex:[0-9]{200}", num_predict=60, think="off")))
    assert done.reason == "length"
    assert done.conformity == "incomplete"
    assert len(answer.strip()) == 60
    _, _, done = gather(model.chat(ask("regex:[0-9]{20}", stop=["1", "0", "2", "3"], think="off")))
    assert done.conformity == "incomplete"


def test_without_a_format_nothing_is_said(model):
    assert gather(model.chat(ChatRequest(ask("json").messages)))[2].conformity is None


def test_grammars_and_raw_prompts(model):
    grammar = parse_grammar('root ::= "<" [0-9]{1,3} ("," x){1,2} ">"\nx ::= "5" | "<" x ">" x')
    _, answer, done = gather(model.chat(ask(grammar, think="off")))
    assert done.conformity == "valid"
    assert conformity(answer, grammar) == "valid"
    request = ChatRequest(raw="347", format=parse_format("regex:[a-z]{3,5}"), options={"num_predict": 9})
    assert 3 <= len(gather(model.chat(request))[1]) <= 5


def test_formats_in_one_batch_do_not_mix(model):
    forms = ["regex:[0-9]{2}", "choice:yes,no", SCHEMA, "regex:[a-c]{3}"]
    streams = [model.chat(ask(form)) for form in forms]
    for form, stream in zip(forms, streams, strict=True):
        _, answer, done = gather(stream)
        assert done.conformity == "valid", (form, answer)


def test_what_cannot_be_enforced_is_an_error_before_anything_is_computed(model):
    with pytest.raises(InvalidRequest, match="'not' cannot be enforced"):
        model.chat(ask({"not": {"type": "null"}}))
    with pytest.raises(InvalidRequest, match="too large"):
        model.chat(ask("regex:(a{1000}){1000}"))


def test_text_that_begins_like_a_tag_is_the_grammars(model):
    for think in ("off", "on"):
        _, answer, done = gather(model.chat(ask("regex:<[a-z]{3}>", think=think)))
        assert done.conformity == "valid"
        assert len(answer.strip()) == 5


def answers(model, seeds, most=400):
    """Ask for random schemas, eight at once; return how many answers were finished, cut, and refused."""
    counts = {"finished": 0, "cut": 0, "refused": 0}
    for start in range(0, len(seeds), 8):
        streams = []
        for seed in seeds[start : start + 8]:
            schema = random_schema(random.Random(seed))
            try:
                streams.append((schema, model.chat(ask(schema, seed=seed, think=16, num_predict=most))))
            except InvalidRequest:
                counts["refused"] += 1
        for schema, stream in streams:
            _, answer, done = gather(stream)
            whole = done.conformity == "valid"
            assert whole or (done.reason, done.conformity) == ("length", "incomplete"), (schema, answer)
            counts["finished" if whole else "cut"] += 1
            if whole:
                jsonschema.Draft202012Validator(schema).validate(json.loads(answer))
    return counts


def test_random_schemas(model):
    counts = answers(model, range(1000, 1016))
    assert counts["finished"] >= 10
    assert counts["cut"] == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_random_schemas(model):
    counts = answers(model, range(200))
    assert counts["refused"] < 20
    assert counts["cut"] == 0
