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
        samplers=("temperature", "top_k"),
        min_keep=3,
        top_n_sigma=0,
        xtc_probability=1,
        xtc_threshold=0,
        dry_multiplier=0.8,
        dry_base=1,
        dry_allowed_length=0,
        dry_penalty_last_n=-1,
        dry_sequence_breakers=(),
        dynatemp_range=0.5,
        dynatemp_exponent=0,
        mirostat=2,
        mirostat_tau=0,
        mirostat_eta=1,
        adaptive_target=-5,
        adaptive_decay=0.99,
        logprobs=0,
    ).validate()
    SamplingParams(samplers=(), dry_base=0, logprobs=1000).validate()


def test_the_defaults_are_llama_cpps():
    params = SamplingParams()
    assert (params.top_n_sigma, params.xtc_probability, params.xtc_threshold) == (-1, 0, 0.1)
    assert (params.dry_multiplier, params.dry_base, params.dry_allowed_length) == (0, 1.75, 2)
    assert (params.dry_penalty_last_n, params.dry_sequence_breakers) == (64, ("\n", ":", '"', "*"))
    assert (params.dynatemp_range, params.dynatemp_exponent, params.min_keep) == (0, 1, 0)
    assert (params.mirostat, params.mirostat_tau, params.mirostat_eta) == (0, 5, 0.1)
    assert (params.adaptive_target, params.adaptive_decay) == (-1, 0.9)


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
        ("samplers", ("top_k", "top_k")),
        ("samplers", ("nucleus",)),
        ("samplers", "top_k"),
        ("min_keep", -1),
        ("top_n_sigma", math.inf),
        ("xtc_probability", 1.1),
        ("xtc_threshold", -0.1),
        ("dry_multiplier", -1),
        ("dry_base", 0.5),
        ("dry_allowed_length", -1),
        ("dry_allowed_length", 1.5),
        ("dry_penalty_last_n", -2),
        ("dry_sequence_breakers", ("",)),
        ("dry_sequence_breakers", ":"),
        ("dynatemp_range", -0.1),
        ("dynatemp_exponent", -1),
        ("mirostat", 3),
        ("mirostat", True),
        ("mirostat", 1.0),
        ("mirostat_tau", -1),
        ("mirostat_eta", math.nan),
        ("adaptive_target", 1.1),
        ("adaptive_decay", 1),
        ("logprobs", -1),
        ("logprobs", 1001),
        ("logprobs", True),
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
