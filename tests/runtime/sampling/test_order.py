"""Tests of the samplers' names, llama.cpp's default order, and how an order is written."""

from __future__ import annotations

import subprocess
import sys

import pytest
from mull.errors import InvalidRequest
from mull.runtime.sampling.draw import TABLE
from mull.runtime.sampling.order import DEFAULT_ORDER, LETTERS, parse_samplers


def test_the_default_order_is_llama_cpps():
    theirs = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"
    assert parse_samplers(theirs + ";adaptive_p") == DEFAULT_ORDER
    assert parse_samplers("edskypmxt") == DEFAULT_ORDER[:-1]
    assert set(TABLE) == set(LETTERS) - {"adaptive_p"}


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("top_k;temperature", ("top_k", "temperature")),
        ("temperature, top_k", ("temperature", "top_k")),
        (["min_p", "top_p"], ("min_p", "top_p")),
        ("top-k;MinP;typical_p;temp;nucleus", ("top_k", "min_p", "typ_p", "temperature", "top_p")),
        ("typ", ("typ_p",)),  # a name, not three letters
        ("dry", ("dry",)),
        ("xtc", ("xtc",)),
        ("kt", ("top_k", "temperature")),
        ("tk", ("temperature", "top_k")),
        ("m", ("min_p",)),
        ("", ()),
        ([], ()),
    ],
)
def test_an_order_is_read(text, order):
    assert parse_samplers(text) == order


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("top_k;top_kk", "unknown sampler 'top_kk'", "did you mean top_k?"),
        ("temperatur", "unknown sampler 'temperatur'", "did you mean temperature?"),
        ("qz", "unknown sampler 'qz'", "known samplers: penalties;dry;"),
        ("infill", "unknown sampler 'infill'", "known samplers: "),
        ("top_k;topk", "samplers names top_k twice", ""),
        ("kk", "samplers names top_k twice", ""),
        ([1], "unknown sampler 1", "known"),
        (7, "samplers must be a list of names, not 7", ""),
    ],
)
def test_what_is_no_order_is_refused(text, message, hint):
    with pytest.raises(InvalidRequest) as caught:
        parse_samplers(text)
    assert caught.value.message == message
    assert caught.value.field == "samplers"
    assert (caught.value.hint or "").startswith(hint)


def test_names_need_no_torch():
    code = (
        "import sys, mull.runtime.sampling.order; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
