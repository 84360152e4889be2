"""Go's template language as Ollama's models use it; what is expected is what Go's text/template writes."""

from __future__ import annotations

import datetime

import pytest
from mull.chat.go_template.evaluator import Evaluator
from mull.chat.go_template.functions import FUNCTIONS, LAZY, GoError
from mull.chat.go_template.lexer import GoSyntaxError, words
from mull.chat.go_template.parser import parse
from mull.chat.go_template.template import GoTemplate, is_go
from mull.chat.limits import Budget, LimitExceeded, Limits
from mull.chat.message import Message, ToolCall
from mull.chat.templates import compile_template
from mull.errors import TemplateError

DATA = {
    "s": "text",
    "n": 3,
    "f": 1.5,
    "yes": True,
    "none": None,
    "list": ["a", "b", "c"],
    "map": {"k": 1, "j": "x"},
}


def run(source: str, data: dict | None = None) -> str:
    tree = parse(source, (*FUNCTIONS, *LAZY))
    return Evaluator(tree, Budget(Limits(), data)).run(DATA if data is None else data)


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("plain", "plain"),
        ("a {{ .s }} b", "a text b"),
        ("a {{- .s -}} b", "atextb"),
        ("a {{- /* note */ -}} b", "ab"),
        ("a{{/* {{ .s }} */}}b", "ab"),
        ("{{ -3 }}{{- 4 }}", "-34"),
        ("{{ .n }} {{ .f }} {{ .yes }} {{ .none }} {{ .absent }}", "3 1.5 true <no value> <no value>"),
        ("{{ .list }} {{ .map.k }}", "[a b c] 1"),
        (r'{{ "a\"b\n" }}{{ `raw\n` }}', 'a"b\nraw\\n'),
        ("{{ 'a' }} {{ 0x1F }} {{ 1_000 }} {{ 2.50 }} {{ 1e3 }}", "97 31 1000 2.5 1000"),
        ("{{ if .s }}1{{ else }}2{{ end }}", "1"),
        ("{{ if .absent }}1{{ else if .n }}2{{ else }}3{{ end }}", "2"),
        ("{{ if and .yes .none }}1{{ else }}2{{ end }}", "2"),
        ("{{ or .none .s }} {{ and .s .n }} {{ not .none }}", "text 3 true"),
        ("{{ or .none (index .list 9) | print }}", None),
        ("{{ and .none (index .list 9) }}", "<no value>"),
        ("{{ with .map }}{{ .j }}{{ else }}no{{ end }}{{ with .absent }}{{ . }}{{ else }}no{{ end }}", "xno"),
        ("{{ with .absent }}1{{ else with .s }}{{ . }}{{ end }}", "text"),
        ("{{ range .list }}[{{ . }}]{{ end }}", "[a][b][c]"),
        ("{{ range $i, $x := .list }}{{ $i }}{{ $x }}{{ $.n }} {{ end }}", "0a3 1b3 2c3 "),
        ("{{ range $x := .list }}{{ $x }}{{ end }}", "abc"),
        ("{{ range $k, $v := .map }}{{ $k }}={{ $v }};{{ end }}", "j=x;k=1;"),
        ("{{ range .none }}x{{ else }}empty{{ end }}", "empty"),
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        ('{{ range .list }}{{ if eq . "b" }}{{ continue }}{{ end }}{{ . }}{{ end }}', "ac"),
        ('{{ range .list }}{{ if eq . "b" }}{{ break }}{{ end }}{{ . }}{{ end }}', "a"),
        ("{{ $x := 1 }}{{ range .list }}{{ $x = . }}{{ end }}{{ $x }}", "c"),
        ("{{ $x := 1 }}{{ if .yes }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}", "21"),
        (
            '{{ eq .n 3 }} {{ eq .n 1 2 3 }} {{ ne .s "x" }} {{ lt 1 2 }} {{ ge 2 2 }} {{ gt 1.5 1 }}',
            "true " * 5 + "true",
        ),
        ("{{ eq .s 3 }} {{ eq .yes 1 }}", "false false"),
        ('{{ len .list }} {{ len .s }} {{ len .map }} {{ len "é" }}', "3 4 2 2"),
        ('{{ index .list 1 }} {{ index .map "j" }}', "b x"),
        ("{{ slice .list 1 }} {{ slice .list 0 2 }} {{ slice .s 1 3 }}", "[b c] [a b] ex"),
        ("{{ (index .list 0) }}{{ (slice .list 1) | len }}", "a2"),
        ('{{ .list | len | printf "%03d" }}', "003"),
        ('{{ printf "%s-%d-%v-%q-%5.1f|%-4s|" .s 7 .yes "a" 1.25 "b" }}', 'text-7-true-"a"-  1.2|b   |'),
        ('{{ print 1 2 "a" 3 }}', "1 2a3"),
        ('{{ json .map }} {{ "<&>" | json }}', '{"j":"x","k":1} "\\u003c\\u0026\\u003e"'),
        ('{{ define "one" }}({{ . }}){{ end }}{{ template "one" .s }}{{ template "one" .n }}', "(text)(3)"),
        ('{{ block "b" .n }}<{{ . }}>{{ end }}', "<3>"),
        ('{{ html "<a&b>" }}{{ urlquery "a b" }}', "&lt;a&amp;b&gt;a+b"),
    ],
)
def test_what_is_written(source, written):
    if written is None:
        with pytest.raises(GoError, match="out of range"):
            run(source)
    else:
        assert run(source) == written


def test_dates():
    today = datetime.date.today()
    assert run("{{ currentDate }} {{ yesterdayDate }}") in (
        f"{day} {day - datetime.timedelta(days=1)}" for day in (today, datetime.date.today())
    )


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ("{{ .s", 1, "unclosed action"),
        ("a\n{{ if .s }}", 2, "unexpected end"),
        ("{{ end }}", 1, "unexpected 'end'"),
        ("{{ else }}", 1, "unexpected 'else'"),
        ("\n\n{{ nothing .s }}", 3, 'function "nothing" not defined'),
        ("{{ $x }}", 1, r'undefined variable "\$x"'),
        ("{{ if .s }}{{ $x := 1 }}{{ end }}{{ $x }}", 1, "undefined variable"),
        ("{{ }}", 1, "missing value for command"),
        ("{{ (.s }}", 1, "unexpected"),
        ("{{ break }}", 1, "break outside of a range"),
        ("{{ 3 .s }}", 1, "only a function takes arguments"),
        ("{{ .s ? }}", 1, "unexpected"),
        ('{{ "a }}', 1, "unexpected"),
        ("{{ if .s }}" * 200, 1, "nests too deeply"),
        ("{{ " + "(" * 200 + ".s" + ")" * 200 + " }}", 1, "nests too deeply"),
        ("{{ if .s }}" + "{{ else if .n }}" * 2000 + "{{ end }}", 1, "nests too deeply"),
        ("a\n{{/* two\nlines */}}{{ 0x" + "F" * 5000 + " }}", 3, "is too large a number"),
        ("{{ " + "9" * 5000 + " }}", 1, "is too large a number"),
        ("{{ 1e999 }}", 1, "is too large a number"),
        (r'{{ "\d" }}', 1, "is no literal"),
        (r'{{ "\777" }}', 1, "is no literal"),
        (r'{{ "\ud800" }}', 1, "is no literal"),
    ],
)
def test_what_is_no_template(source, line, message):
    with pytest.raises(GoSyntaxError, match=message) as caught:
        run(source)
    assert caught.value.line == line


@pytest.mark.parametrize(
    "source",
    [
        "{{ .s.t }}",
        "{{ .none.t }}",
        "{{ index .list 3 }}",
        "{{ slice .list 2 1 }}",
        "{{ lt .s 1 }}",
        "{{ range .s }}{{ end }}",
        "{{ len 3 }}",
        "{{ eq }}",
        "{{ index }}",
        "{{ and false ($x := 1) }}{{ $x }}",
        "{{ and false ($x := 1) }}{{ $x = 2 }}",
        '{{ template "absent" . }}',
        '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}',
    ],
)
def test_what_fails_as_it_runs(source):
    with pytest.raises(GoError):
        run(source)


CHATML = (
    "{{- if or .System .Tools }}<|im_start|>system\n{{ .System }}"
    "{{- if .Tools }}\n# Tools{{ range .Tools }}\n{{ . }}{{ end }}{{ end }}<|im_end|>\n{{ end }}"
    "{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 -}}"
    '{{- if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
    '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n'
    "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}"
    '{{- range .ToolCalls }}<tool_call>{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}'
    "</tool_call>{{ end }}{{ if not $last }}<|im_end|>\n{{ end }}"
    '{{ else if eq .Role "tool" }}<|im_start|>tool {{ .ToolName }}\n{{ .Content }}<|im_end|>\n{{ end }}'
    '{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant\n'
    "{{ if and $.IsThinkSet (not $.Think) }}<think>\n\n</think>\n\n{{ end }}{{ end }}{{ end }}"
)
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells <it>.",
        "parameters": {
            "properties": {"city": {"description": "Where.", "type": "string"}},
            "required": ["city"],
            "type": "object",
        },
    },
}


def test_a_template_of_whole_conversations():
    template = GoTemplate(CHATML)
    call = ToolCall("weather", {"city": "Oslo", "at": 3}, "c1")
    messages = [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("user", "there"),
        Message("assistant", "Let me see.", thinking="hm", tool_calls=(call,)),
        Message("tool", "rain", tool_name="weather", tool_call_id="c1"),
    ]
    assert template.render(messages, [TOOL]) == (
        "<|im_start|>system\nBe brief.\n# Tools\n"
        '{"type":"function","function":{"name":"weather","description":"Tells \\u003cit\\u003e.","parameters":{"type":'
        '"object","required":["city"],"properties":{"city":{"type":"string","description":"Where."}}}}}<|im_end|>\n'
        "<|im_start|>user\nHi\n\nthere<|im_end|>\n"
        "<|im_start|>assistant\n<think>hm</think>Let me see.<tool_call>"
        '{"name": "weather", "arguments": {"at":3,"city":"Oslo"}}</tool_call><|im_end|>\n'
        "<|im_start|>tool weather\nrain<|im_end|>\n<|im_start|>assistant\n"
    )
    assert template.takes_tools
    assert template.num_calls == 2
    assert template.takes_results


def test_thinking_is_switched_by_the_template_s_own_variables():
    template = GoTemplate(CHATML)
    ask = [Message("user", "Hi")]
    assert template.switch.off
    assert template.render(ask, think="off").endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert (
        template.render(ask, think="on")
        == template.render(ask)
        == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert not GoTemplate("{{ .Prompt }}").switch.off


def test_a_template_of_one_exchange():
    template = GoTemplate(
        "{{ if .System }}[SYS]{{ .System }}[/SYS]{{ end }}[INST]{{ .Prompt }}[/INST]{{ .Response }}</s>"
    )
    ask = [Message("system", "s"), Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    assert template.render(ask) == "[SYS]s[/SYS][INST]a[/INST]b</s>[INST]c[/INST]"
    assert GoTemplate("Q: {{ .Prompt }} A:").render(ask[1:]) == "Q: a A:bQ: c A:"


def test_what_a_response_is_within_goes_with_it():
    template = GoTemplate("{{ .Prompt }}{{ if .Prompt }}:{{ .Response }}!{{ end }}?")
    assert (
        template.render([Message("user", "a"), Message("assistant", "b"), Message("user", "c")]) == "a:b!?c:"
    )


def test_errors_name_the_line():
    with pytest.raises(TemplateError, match="TEMPLATE, line 2: unexpected 'end'"):
        GoTemplate("a\n{{ end }}")
    with pytest.raises(TemplateError, match="TEMPLATE, line 2: there is no field Colour") as caught:
        GoTemplate("{{ range .Messages }}\n{{ .Colour }}{{ end }}").render([Message("user", "x")])
    assert "--raw" in str(caught.value.hint)


@pytest.mark.parametrize(
    "source",
    [
        "{{ range 100000000 }}{{ end }}",
        '{{ $s := "aaaaaaaaaa" }}{{ range 30 }}{{ $s = print $s $s }}{{ end }}{{ $s }}',
        '{{ range 100000 }}{{ printf "%999d" . }}{{ end }}',
        "{{ range 9999999 }}{{ end }}",
    ],
)
def test_time_and_memory_are_bounded(source):
    with pytest.raises(TemplateError, match=r"(too (long|much|many)|a value of about)"):
        GoTemplate(source + "{{ .Messages }}").render([Message("user", "x")])


def test_one_value_many_times_over_is_refused_before_it_is_written(monkeypatch):
    made = []
    monkeypatch.setitem(FUNCTIONS, "print", lambda *values: made.append(len(values)) or "a" * 100_000)
    with pytest.raises(LimitExceeded):
        run("{{ $s := print }}{{ print " + "$s " * 100 + "}}")
    assert made == [0]


def test_a_character_that_there_is_not_is_written_as_go_does():
    assert run('{{ printf "%c%c%c%c" 99999999 -1 0xD800 65 }}') == "\ufffd\ufffd\ufffdA"
    assert run('{{ printf "%.' + "9" * 5000 + 's" .s }}').startswith("%.999")


def test_time_grows_with_the_length_of_a_source_and_not_with_its_square():
    """A look from every `{%` to the end, or from the start to every `{{`, would take minutes here."""
    assert not is_go("{%" * 400_000)
    assert is_go("{%" * 400_000 + "{{ .Prompt }}")
    assert is_go("{% x %}{{ .Prompt }}{% if {# #}")
    assert not is_go("{% {{ .Prompt }} {# %}")
    found = list(words("{{.s}}\n" * 100_000))
    assert (found[-1].line, found[-3].line, found[-4].line) == (100_001, 100_000, 100_000)


def test_types_are_named_as_typescript_does():
    properties = {
        "a": {"type": "integer"},
        "b": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "c": {"type": ["array", "object"]},
        "d": {"type": 5},
        "e": {},
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": properties}}}
    template = GoTemplate(
        "{{ range .Tools }}{{ range $n, $p := .Function.Parameters.Properties }}"
        "{{ $n }}: {{ toTypeScriptType $p }}; {{ end }}{{ end }}{{ range .Messages }}{{ end }}"
    )
    assert template.render([Message("user", "x")], tools=(tool,)) == (
        "a: number; b: string | null; c: any[] | Record<string, any>; d: any; e: any; "
    )


def test_the_language_is_told_by_the_source():
    assert isinstance(compile_template("{{ .Prompt }}"), GoTemplate)
    assert not isinstance(compile_template("{{ messages[0].content }}", bos="<s>"), GoTemplate)


@pytest.mark.parametrize(
    "text",
    [
        "{{ .Prompt }}",
        "{{- .System -}}",
        "{{ if .System }}x{{ end }}",
        "{{- range .Messages }}{{ .Role }}{{ end }}",
        "{{ range $i, $_ := .Messages }}",
        "{{ $last := 1 }}",
        "{{ json .ToolCalls }}",
        "{{/* note */}}",
        "a {{ end }}",
    ],
)
def test_go_templates_are_recognised(text: str) -> None:
    assert is_go(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ messages[0].content }}",
        "{% for m in messages %}{{ m.role }}{{- '.' }}{% endfor %}",
        "{{ range(3) | list }}",
        "{# {{ .Prompt }} #}{{ end_token }}",
        "{% set x = '{{ .Prompt }}' %}{{ x }}",
        "{{ ifelse }}{{ with_tools }}{{ define_it }}",
        "plain text",
    ],
)
def test_jinja_is_left_alone(text: str) -> None:
    assert not is_go(text)
