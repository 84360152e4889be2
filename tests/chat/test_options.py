"""Whose value an option takes, and what the values mean."""

from __future__ import annotations

import pytest
from mull.chat.options import OPTIONS, SELDOM, from_user, merge, model_defaults, our_defaults, sampling_params
from mull.errors import InvalidRequest
from mull.runtime.sampling.params import SamplingParams


def test_the_last_layer_wins_and_keeps_its_name():
    model = model_defaults({"temperature": 0.6, "top_k": 20, "do_sample": True, "top_p": None}, "gguf")
    merged = merge(our_defaults(), model, from_user({"top_k": 5, "seed": None}, "request"))
    named = {
        name: (merged[name].value, merged[name].source) for name in ("temperature", "top_k", "top_p", "seed")
    }
    assert named == {
        "temperature": (0.6, "gguf"),
        "top_k": (5, "request"),
        "top_p": (0.95, "mull"),
        "seed": (None, "mull"),
    }


@pytest.mark.parametrize(
    ("name", "field", "neutral"),
    [("num_predict", "max_tokens", None), ("seed", "seed", None), ("top_k", "top_k", 0)],
)
def test_negative_numbers_mean_no_limit(name, field, neutral):
    params = sampling_params(merge(our_defaults(), from_user({name: -1}, "request")))
    assert getattr(params, field) == neutral


@pytest.mark.parametrize(("stop", "texts"), [("a", ("a",)), (["a", "b"], ("a", "b")), ([], ())])
def test_a_stop_string_may_stand_alone(stop, texts):
    assert sampling_params(from_user({"stop": stop}, "request")).stop == texts


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(InvalidRequest, match="temperatur") as caught:
        from_user({"temperatur": 1}, "request")
    assert caught.value.hint == "did you mean temperature?"


def params_of(**options: object) -> SamplingParams:
    return sampling_params(merge(our_defaults(), from_user(options, "request")))


def test_the_defaults_are_those_of_sampling():
    assert params_of() == SamplingParams()


@pytest.mark.parametrize("order", ["top_k;temperature", "kt", ["top_k", "temp"]])
def test_an_order_of_samplers_may_be_written_in_three_ways(order):
    assert params_of(samplers=order).samplers == ("top_k", "temperature")


@pytest.mark.parametrize(
    ("written", "texts"), [("none", ()), (["none"], ()), ([":"], (":",)), ("\n", ("\n",)), ([], ())]
)
def test_sequence_breakers(written, texts):
    assert params_of(dry_sequence_breakers=written).dry_sequence_breakers == texts


@pytest.mark.parametrize(("asked", "count"), [(True, 0), (False, None), (3, 3), (0, 0)])
def test_logprobs_may_be_true(asked, count):
    assert params_of(logprobs=asked).logprobs == count


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("samplers", 3),
        ("samplers", "top_kk"),
        ("samplers", "kk"),
        ("dry_sequence_breakers", 5),
        ("dry_sequence_breakers", [""]),
        ("mirostat", 3),
        ("logprobs", -1),
        ("xtc_probability", "often"),
    ],
)
def test_what_is_out_of_range_names_its_field(name, value):
    with pytest.raises(InvalidRequest) as caught:
        params_of(**{name: value})
    assert caught.value.field == name


def test_a_models_file_may_recommend_samplers_known_here():
    theirs = {
        "sequence": "top_k;infill;temperature;new_one",
        "xtc_probability": 0.5,
        "mirostat": 2,
        "mirostat_tau": 4.0,
    }
    params = sampling_params(merge(our_defaults(), model_defaults(theirs, "gguf")))
    assert params.samplers == ("top_k", "temperature")
    assert (params.xtc_probability, params.mirostat, params.mirostat_tau) == (0.5, 2, 4.0)


def test_what_is_seldom_set_is_off():
    assert set(OPTIONS) >= SELDOM
    assert {"samplers", "dry_base", "adaptive_decay"} <= SELDOM
    assert {"temperature", "logit_bias", "seed"}.isdisjoint(SELDOM)
