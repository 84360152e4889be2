"""A template that nobody has read can neither leave its sandbox nor take memory or time without limit."""

from __future__ import annotations

import tracemalloc

import pytest
from mull.chat.limits import Limits
from mull.chat.message import Message
from mull.chat.template import Template
from mull.errors import TemplateError

HELLO = [Message("user", "hi")]
SMALL = Limits(value=400_000, total=1_600_000, turns=30_000)
NS = "{% set ns = namespace(x='ab', l=[], t=(1,), d={}) %}{% for i in range(90) %}"
MILLION = "{% set m = 'a' * 300000 %}"
SECOND = r"{% set n = '\n' * 300000 %}"

TOO_MUCH = {
    "multiplied text": "{{ 'a' * 10**9 }}",
    "multiplied from the left": "{{ 10**9 * 'a' }}",
    "multiplied list": "{{ [1] * 10**9 }}",
    "shared text in a list": MILLION + "{{ [m] * 100000 }}",
    "power": "{% set x = 10**4000 %}{{ x**1000 }}",
    "doubled with +": NS + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubled with ~": NS + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubled in a block": NS + "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "doubled in a macro": "{% macro m(a) %}{{ a }}{{ a }}{% endmacro %}"
    + NS
    + "{% set ns.x = m(ns.x) %}{% endfor %}",
    "doubled in a filter block": NS + "{% set ns.x|upper %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "nested lists": NS + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    "nested tuples, hashed": NS + "{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ {ns.t: 1} }}",
    "nested dicts, as JSON": NS + "{% set ns.d = {'a': ns.d, 'b': ns.d} %}{% endfor %}{{ ns.d|tojson }}",
    "nested dicts, called": NS + "{% set ns.d = dict(a=ns.d, b=ns.d) %}{% endfor %}{{ ns.d == ns.d }}",
    "nested arguments": "{% macro f() %}{% set ns.l = varargs %}{% endmacro %}"
    + NS
    + "{% set _ = f(ns.l, ns.l) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}",
    "many texts": MILLION + NS + "{% set ns.l = ns.l + [m ~ i] %}{% endfor %}",
    "many slices": MILLION + NS + "{% set ns.l = ns.l + [m[1:]] %}{% endfor %}",
    "many filtered": MILLION + NS + "{% set _ = m|upper %}{% endfor %}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "zfill": "{{ 'a'.zfill(width=10**9) }}",
    "expandtabs": r"{{ ('\t' * 90000).expandtabs(90000) }}",
    "to_bytes": "{{ (1).to_bytes(10**9, 'big') }}",
    "translate": MILLION + "{{ 'a'.translate({97: m}) }}",
    "replace": MILLION + "{{ m.replace('a', m) }}",
    "join": MILLION + "{{ m.join(m) }}",
    "percent width": "{{ '%1000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (10**9, 1) }}",
    "percent names": MILLION + "{{ '%(a)s' * 60000 % {'a': m} }}",
    "format width": "{{ '{:1000000000}'.format(1) }}",
    "format nested width": "{{ '{0:{1}}'.format(1, 10**9) }}",
    "format positions": MILLION + "{{ ('{0}' * 90000).format(m) }}",
    "format_map": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "center filter": "{{ 'a'|center(10**9) }}",
    "center, mapped": "{% for m in messages|map('center', 10**9) %}{{ m }}{% endfor %}",
    "replace filter": MILLION + "{{ m|replace('a', m) }}",
    "join filter": MILLION + "{{ m|join(m) }}",
    "format filter": "{{ '%1000000000d'|format(1) }}",
    "indent filter": SECOND + "{{ n|indent(90000) }}",
    "indent filter with text": SECOND + "{{ n|indent(n) }}",
    "slice filter": "{{ range(9)|slice(10**9)|list }}",
    "batch filter": "{{ range(9)|batch(10**9, 'x')|list }}",
    "sum filter": "{{ ([[1]] * 9000)|sum(start=[]) }}",
    "wide JSON": "{{ (range(9000)|list)|tojson(separators=('x' * 9000, ':')) }}",
    "deep JSON": "{{ (range(9000)|list)|tojson(indent=90000) }}",
    "escaped": "{% autoescape true %}{{ '&' * 300000 }}{% endautoescape %}",
    "lorem ipsum": "{{ lipsum(10**6) }}",
    "a date": "{{ strftime_now('%1000000000d') }}",
    "printed constants": "{% for i in range(90000) %}" + "x" * 90 + "{% endfor %}",
    "a buffer of constants": "{% set x %}{% for i in range(90000) %}" + "x" * 90 + "{% endfor %}{% endset %}",
    "endless loops": "{% for i in range(99999) %}" * 4 + "{% endfor %}" * 4,
    "loops without calls": "{% set r = range(99999) %}" + "{% for a in r %}" * 2 + "{% endfor %}" * 2,
    "a range too long": "{% for i in range(10**9) %}{% endfor %}",
    "branching recursion": "{% macro m(n) %}{{ m(n-1) ~ m(n-1) if n }}{% endmacro %}{{ m(90) }}",
    "recursive loop": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
}
WAYS_OUT = {
    "classes": "{{ ''.__class__.__mro__ }}",
    "classes by item": "{{ ''['__class__'].__mro__ }}",
    "classes by filter": "{{ (''|attr('__class__')).mro() }}",
    "classes by format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "a namespace's class": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}{{ ns }}",
    "a function's globals": "{{ raise_exception.__globals__['json'] }}",
    "the messages": "{{ messages.append(1) }}",
    "one message": "{{ messages[0].update(content='x') }}",
    "files": "{% include '/etc/passwd' %}",
    "inherited files": "{% extends '/etc/passwd' %}",
    "imports": "{% import 'os' as os %}",
}


@pytest.mark.parametrize("source", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_template_that_wants_too_much_is_refused(source):
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError):
            Template(source, limits=SMALL).render(HELLO)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24_000_000


@pytest.mark.parametrize("source", WAYS_OUT.values(), ids=WAYS_OUT)
def test_there_is_no_way_out(source):
    with pytest.raises(TemplateError):
        Template(source).render(HELLO)


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% if 1 %}" * 500 + "{% endif %}" * 500,
        "{{ " + "-" * 9000 + "1 }}",
    ],
    ids=["parentheses", "blocks", "signs"],
)
def test_a_template_that_nests_too_deeply_to_compile(source):
    with pytest.raises(TemplateError):
        Template(source)


def test_nothing_is_computed_while_compiling():
    Template("{% if false %}{{ 'a' * 10**9 }}{{ 'a'|center(10**9) }}{{ 10**10**8 }}{% endif %}").render(HELLO)


def test_the_processor_time_is_limited():
    with pytest.raises(TemplateError, match="takes too long"):
        Template("{% for i in range(9999) %}{% endfor %}", limits=Limits(seconds=-1.0)).render(HELLO)


def test_limits_grow_with_the_conversation():
    long = [Message("user", "x" * 1_000_000)]
    template = Template("{{ messages[0].content|trim }}!{{ messages[0].content|upper }}", limits=SMALL)
    assert len(template.render(long)) == 2_000_001
    with pytest.raises(TemplateError, match="template makes"):
        Template("{{ messages[0].content * 20 }}", limits=SMALL).render(long)


def test_lookups_cost_nothing():
    look = "{% set x = messages[0].get('content') %}{% set y = x|default('') %}"
    source = "{% for i in range(2000) %}" + look + "{% endfor %}"
    Template(source, limits=SMALL).render([Message("user", "x" * 100_000)])


def test_a_namespace_is_opaque():
    source = "{% set n = namespace(a=1) %}{% set l = [n] * 9 %}{% set n.a = 'x' * 9 %}{{ l[0] }}{{ n.a }}"
    assert Template(source).render(HELLO) == "<namespace>xxxxxxxxx"


def test_turns_grow_with_the_square_of_the_conversation():
    source = "{% for a in messages %}{% for b in messages %}{% endfor %}{% endfor %}"
    Template(source, limits=SMALL).render([Message("user", "x")] * 500)


WORKS = {
    "{% set ns = namespace(l=[]) %}{% for i in range(3) %}{% set ns.l = ns.l + [{'i': i}] %}{% endfor %}"
    "{{ ns.l|map(attribute='i')|join('-') }}": "0-1-2",
    "{{ 'a,b'.split(',')[::-1] }}": "['b', 'a']",
    "{{ 'x' * 3 ~ 1 ~ none }}": "xxx1None",
    "{{ '%02d' % 7 }} {{ '{}:{a:.2f}'.format(1, a=2) }}": "07 1:2.00",
    "{{ {'b': 1, 'a': 2}|dictsort }}": "[('a', 2), ('b', 1)]",
    "{{ 'ab'|replace('a', 'c')|indent(2, true) }}": "  cb",
    "{{ ('x', 'y')|join }}{{ ', '.join(['x', 'y']) }}": "xyx, y",
    "{{ 7 // 2 }} {{ 2 ** 10 }} {{ -3 }} {{ 1 - 0.5 }}": "3 1024 -3 0.5",
    "{{ [3, 1]|sort|first }} {{ dict(a=1).items()|list }}": "1 [('a', 1)]",
    "{{ 4294967296|default(1) }} {{ x|default(4294967296) }}": "4294967296 4294967296",
    "{% set x %}a{{ 1 }}{% endset %}{{ x }}{% for c in 'ab' %}{{ loop.index }}{{ c }}{% endfor %}": "a11a2b",
}


@pytest.mark.parametrize(("source", "text"), WORKS.items())
def test_what_templates_do_still_works(source, text):
    assert Template(source).render(HELLO) == text
