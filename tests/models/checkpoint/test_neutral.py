"""GGUF's keys in Hugging Face's words, where the translation is more than a renaming."""

from __future__ import annotations

import pytest
from mull.errors import CorruptFile
from mull.models.checkpoint.neutral import neutral_config


def translate(**keys: object) -> dict[str, object]:
    return neutral_config(
        {"general.architecture": "x", **{f"x.{key.replace('__', '.')}": value for key, value in keys.items()}}
    )


def test_a_scaling_factor_without_a_type_is_linear() -> None:
    assert translate(rope__scaling__factor=4.0)["rope_parameters"] == {"factor": 4.0, "rope_type": "linear"}
    assert translate(rope__scale_linear=2.0)["rope_parameters"] == {"factor": 2.0, "rope_type": "linear"}


def test_the_type_of_scaling_is_kept() -> None:
    scaling = translate(rope__scaling__factor=4.0, rope__scaling__type="yarn")["rope_parameters"]
    assert scaling == {"factor": 4.0, "rope_type": "yarn"}
    assert translate(rope__freq_base=5e5)["rope_parameters"] == {"rope_theta": 5e5}


def test_windowed_layers_by_flags_or_by_period() -> None:
    config = translate(attention__sliding_window_pattern=[True, False])
    assert config["layer_types"] == ["sliding_attention", "full_attention"]
    assert translate(attention__sliding_window_pattern=6)["sliding_window_pattern"] == 6
    with pytest.raises(CorruptFile, match="sliding_window_pattern is 'x'"):
        translate(attention__sliding_window_pattern="x")


def test_lists_of_one_value_are_that_value() -> None:
    assert translate(feed_forward_length=[96, 96])["intermediate_size"] == 96
    with pytest.raises(CorruptFile, match="differs from layer to layer"):
        translate(feed_forward_length=[96, 64])
