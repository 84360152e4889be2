"""Lark grammars that no text comes of are refused, as those in GBNF are, and no others."""

import contextlib

import pytest
from mull.errors import InvalidRequest
from mull.runtime.grammar.check import conformity
from mull.runtime.grammar.constraint import Constraint


@pytest.mark.parametrize(
    "grammar",
    [
        'start: "a" start',
        'start: "a" start | "b" start',
        'start: x\nx: "x" y\ny: "y" x | "z" c\nc: c',
        'start: x{2}\nx: "a" x',
        'start: x+ "b"\nx: ("a" | "b") (x | start)',
        'start: "a"~2..3 start',
        'start[capture="x"]: "a" start',
        '// b\n?start:\n  | "a" start -> more\n  | b\nb: /x+/ start // b: "b"',
        'start: %json {"type": "object"} start',
        '%llguidance {}\nstart: "a" start\n%ignore /\\s+/\n',
        'start: <|im_end|> "a".."z" start',
    ],
)
def test_a_grammar_without_any_text_is_refused(grammar):
    with pytest.raises(InvalidRequest, match="accepts nothing: its rule `start` never comes") as caught:
        conformity("a", Constraint("lark", grammar))
    assert caught.value.field == "grammar"


@pytest.mark.parametrize(
    "grammar",
    [
        'start: "a" start | "a"',
        'start: "a" start?',
        'start: "a" [start]',
        'start: ("a" start)*',
        'start: "a"\n   foo: "b" foo',  # not needed
        'start: b | c\nb: "b" b\nc: "a" | "c" c',
        "start: x{0,2} A\nx: x /b/\nA: /a/i",
        'start: A\nA: "a" | "\\"" | /\\/b[|:]/ | "start: start"',
        'start: x\nx[lazy]: /a+/\n%ignore " " ',
        'start: (start "b" | "a")\n',
        '%import common.WS\nstart: "a" | WS start',
        'start: "a" | %json {"enum": ["}:\\n"]} start',
    ],
)
def test_any_other_is_followed(grammar):
    assert conformity("a", Constraint("lark", grammar)) == "valid"


def test_what_is_unknown_here_is_left_to_the_library():
    with pytest.raises(InvalidRequest, match="cannot be enforced"):
        conformity("a", Constraint("lark", 'start: "a" start ^ 3'))
    with pytest.raises(InvalidRequest, match="cannot be enforced"):
        conformity("a", Constraint("lark", "start: " + "(" * 500))


def test_damaged_grammars_are_refused_or_work():
    whole = '?start: ("a" | /[b-d]/{1,3} x)* // end\nx.2: "\\u00e9" %json {"type": "null"} [Y] -> z\nY: "y"i'
    for at in range(len(whole)):
        for damaged in (whole[:at], whole[:at] + whole[at + 1 :], whole[:at] + "\\" + whole[at:]):
            with contextlib.suppress(InvalidRequest):
                conformity("ab", Constraint("lark", damaged))
