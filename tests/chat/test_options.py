"""Whose value an option takes, and what the values mean."""

from __future__ import annotations

import pytest
from mull.chat.options import from_user, merge, model_defaults, our_defaults, sampling_params
from mull.errors import InvalidRequest


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
