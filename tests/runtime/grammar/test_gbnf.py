"""GBNF means in Lark what it means in llama.cpp: exactly the texts that its rules derive."""

import contextlib

import pytest
from mull.errors import InvalidRequest
from mull.runtime.grammar.check import conformity
from mull.runtime.grammar.constraint import Constraint


def states(grammar, *texts):
    return [conformity(text, Constraint("gbnf", grammar)) for text in texts]


@pytest.mark.parametrize(
    ("grammar", "valid", "incomplete", "invalid"),
    [
        ('root ::= "ab"', ["ab"], ["", "a"], ["b", "abc", "abab"]),
        (r'root ::= "\u0041\n" [\x42-\U00000043]', ["A\nB", "A\nC"], ["A\n"], ["A\nD", "A"[1:] + "B"]),
        ('root ::= [^a-c"]+', ["d", 'x y"'[:3], "é\n"], [""], ["a", '"', "xa"]),
        ("root ::= [a\\]\\-]", ["a", "]", "-"], [""], ["\\", "b"]),
        ("root ::= [+-] [-+] [a-]", ["+-a", "-+-"], ["+"], ["a"]),
        ("root ::= .{2}", ["ab", "東\n"], ["a"], ["abc"]),
        ('root ::= ("a" | "b"){2,3} "c"?', ["ab", "bbac"], ["a"], ["aaaa", "cc"]),
        ('root ::= "a"{2} "b"{,1} "c"{1,}', ["aac", "aabccc"], ["aa", "aab"], ["aabb"]),
        ('root ::= "a"{0} "b"', ["b"], [""], ["ab"]),
        ('root ::= "a" ""  "b"', ["ab"], ["a"], []),
        ('root ::= (\n  "a" # one\n  | "b"\n)+\n  | "c"\n# the end', ["ab", "c"], [""], ["ac"]),
        ('root ::= a-b aB\na-b ::= "x"\naB ::= "y"', ["xy"], ["x"], ["y"]),
        ('root ::= "(" root ")" | "x"', ["x", "((x))"], ["(", "((x)"], [")", "(x))"]),
        ('\r\nroot ::= x\r\nx ::= "1"\r\n', ["1"], [""], ["2"]),
    ],
)
def test_notation(grammar, valid, incomplete, invalid):
    assert states(grammar, *valid) == ["valid"] * len(valid)
    assert states(grammar, *incomplete) == ["incomplete"] * len(incomplete)
    assert states(grammar, *invalid) == ["invalid"] * len(invalid)


@pytest.mark.parametrize("recursive", ["", ' | "(" root ")"'])
def test_no_text_is_lost_to_longest_matches(recursive):
    # A lexer that takes the longest match would read "abc" as the literal, and the spaces as part of the word.
    literal = f'root ::= "abc" "y" | [a-z] [a-z] [a-z] "x"{recursive}'
    assert states(literal, "abcx", "abcy", "abdx", "abdy") == ["valid", "valid", "valid", "invalid"]
    words = f'root ::= word " " word{recursive}\nword ::= [a-z ]+'
    assert states(words, "ab cd", "ab c d", "ab", "a ") == ["valid", "valid", "incomplete", "incomplete"]


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("", "no rule `root`"),
        ('x ::= "a"', "no rule `root`"),
        ('root := "a"', r"`::=` must follow.*line 1, column 6"),
        ("root ::= a\n", r"no rule 'a' \(line 1, column 10"),
        ('root ::= "b"\nx ::= "a', r"has no end \(line 2, column 7"),
        ("root ::= [a", "has no end"),
        ("root ::= []", "is empty"),
        ("root ::= [z-a]", "runs backwards"),
        ('root ::= ("a"', r"`\)` is missing"),
        ('root ::= "a")', "nothing is known that begins with"),
        (r'root ::= "\q"', r"unknown escape \\q"),
        (r'root ::= "\u12"', "unknown escape"),
        (r'root ::= "\uD800"', "is no character"),
        ('root ::= "a', "has no end"),
        ('root ::= "a\\', "unknown escape|has no end"),
        ('root ::= "a"{3,1}', "3 repetitions at least and 1 at most"),
        ('root ::= "a"{}', "written"),
        ('root ::= "a"\nroot ::= "b"', "there twice"),
        ("root ::= " + "(" * 500, "parentheses are open"),
        ("root ::= root", "never comes to an end"),
        ('root ::= "a" b\nb ::= "c" root', "never comes to an end"),
        ("root ::= !<[1]>", "not supported"),
        ("root ::= <", "a token is written"),
        (
            "root ::= r0\n" + "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(40)) + "\nr40 ::= [ab]",
            "too large",
        ),
    ],
)
def test_what_is_no_grammar_is_refused(grammar, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        conformity("a", Constraint("gbnf", grammar))
    assert caught.value.field == "grammar"


def test_damaged_grammars_are_refused_or_work():
    whole = 'root ::= ("a" | [b-d\\x41]{1,3} x)* # end\nx ::= "\\u00e9" . <[5]>?'
    for at in range(len(whole)):
        for damaged in (whole[:at], whole[:at] + whole[at + 1 :], whole[:at] + "\\" + whole[at:]):
            with contextlib.suppress(InvalidRequest):
                conformity("ab", Constraint("gbnf", damaged))
