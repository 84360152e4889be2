"""Tests of the ranges of sampling options."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from mull.errors import InvalidRequest
from mull.runtime.sampling.params import SamplingParams


def test_defaults_and_extremes_are_valid():
    SamplingParams().validate()
    SamplingParams(
        temperature=0,
        top_k=0,
        top_p=0,
        min_p=1,
        typical_p=1e-9,
        repeat_penalty=0.1,
        repeat_last_n=-1,
        presence_penalty=-2,
        logit_bias={0: -math.inf, 5: 3},
        seed=2**64 - 1,
        max_tokens=0,
        stop=("a", "\n"),
        ignore_eos=True,
    ).validate()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", 1e300),
        ("temperature", 10**400),
        ("temperature", "hot"),
        ("temperature", True),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", 1.1),
        ("top_p", math.nan),
        ("min_p", -0.01),
        ("min_p", 1.01),
        ("typical_p", 0),
        ("typical_p", 1.5),
        ("repeat_penalty", 0),
        ("repeat_penalty", math.inf),
        ("repeat_penalty", 2**70),
        ("repeat_last_n", -2),
        ("presence_penalty", math.nan),
        ("frequency_penalty", None),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {1: math.nan}),
        ("logit_bias", {1: math.inf}),
        ("logit_bias", {1: 1e300}),
        ("logit_bias", {2**70: 1.0}),
        ("logit_bias", {"1": 1.0}),
        ("logit_bias", [1]),
        ("seed", -1),
        ("seed", 2**64),
        ("seed", 1.0),
        ("max_tokens", -1),
        ("stop", "text"),
        ("stop", ("",)),
        ("stop", (1,)),
        ("ignore_eos", 1),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(InvalidRequest) as caught:
        SamplingParams(**{field: value}).validate()
    assert caught.value.field == field
    assert field in caught.value.message


def test_params_need_no_torch():
    code = "import sys, mull.runtime.sampling.params, mull.runtime.request; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
