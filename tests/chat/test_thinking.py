"""What a user may ask of thoughts: values, precedence, and the limits that they mean for a window."""

from __future__ import annotations

import pytest
from mull.chat.options import Sourced
from mull.chat.thinking import LEVELS, Amount, ThinkOptions, merge_thinking, resolve, think_options
from mull.errors import InvalidRequest


def layer(source: str, **values: object) -> dict[str, Sourced]:
    return {name: Sourced(value, source) for name, value in values.items()}


def merged(*layers: dict[str, object]) -> dict[str, object]:
    found = merge_thinking(*[layer(str(number), **values) for number, values in enumerate(layers)])
    return {name: sourced.value for name, sourced in found.items()}


@pytest.mark.parametrize(
    ("value", "mode", "budget", "level"),
    [
        ("auto", "auto", None, None),
        ("on", "on", None, None),
        (True, "on", None, None),
        ("off", "off", None, None),
        (False, "off", None, None),
        (512, "on", Amount(512), None),
        ("512", "on", Amount(512), None),
        ("50%", "on", Amount(share=0.5), None),
        ("12.5%", "on", Amount(share=0.125), None),
        ("high", "on", Amount(share=0.5), "high"),
        ("-1", "on", None, None),
        (-1, "on", None, None),
        (0, "off", None, None),
        ("0%", "off", None, None),
    ],
)
def test_values_of_think(value: object, mode: str, budget: Amount | None, level: str | None) -> None:
    options = think_options({"think": value})
    assert (options.mode, options.budget, options.level) == (mode, budget, level)


def test_nothing_asked_leaves_everything_to_the_model() -> None:
    assert think_options({}) == ThinkOptions()


def test_all_options_from_texts_and_from_json() -> None:
    texts = {
        "think_budget": "100", "think_min": "10%", "think_rounds": "3", "think_wait": "Hm", "think_soft": ".5",
        "think_message": "", "think_reserve": "20%", "think_loop": "nudge", "think_exit": "confidence:0.9",
        "think_history": "last",
    }  # fmt: skip
    values = texts | {"think_budget": 100, "think_rounds": 3, "think_soft": 0.5}
    expected = ThinkOptions(
        mode="on", budget=Amount(100), minimum=Amount(share=0.1), rounds=3, wait="Hm", soft=0.5, message="",
        reserve=Amount(share=0.2), loop=3, nudge=True, exit=0.9, history="last",
    )  # fmt: skip
    assert think_options(texts) == think_options(values) == expected


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"think": "much"}, "think"),
        ({"think": "-2"}, "think"),
        ({"think": -5}, "think"),
        ({"think": "101%"}, "think"),
        ({"think": "5 %"}, "think"),
        ({"think": 1.5}, "think"),
        ({"think": "٣"}, "think"),
        ({"think_budget": "many"}, "think_budget"),
        ({"think_budget": True}, "think_budget"),
        ({"think_budget": 2**31}, "think_budget"),
        ({"think_min": -1}, "think_min"),
        ({"think": 50, "think_min": 51}, "think_min"),
        ({"think_rounds": -1}, "think_rounds"),
        ({"think_rounds": 1.5}, "think_rounds"),
        ({"think_soft": 1.01}, "think_soft"),
        ({"think_soft": float("nan")}, "think_soft"),
        ({"think_message": 3}, "think_message"),
        ({"think_wait": ["Wait"]}, "think_wait"),
        ({"think_reserve": "lots"}, "think_reserve"),
        ({"think_loop": 1}, "think_loop"),
        ({"think_loop": "maybe"}, "think_loop"),
        ({"think_exit": "confidence:0"}, "think_exit"),
        ({"think_exit": "confidence:1.1"}, "think_exit"),
        ({"think_history": "some"}, "think_history"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(values: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        think_options(values)
    assert caught.value.field == field


def test_a_number_wins_over_a_word_and_says_so() -> None:
    options = think_options({"think": "high", "think_budget": 9})
    assert (options.mode, options.budget, options.level) == ("on", Amount(9), None)
    assert options.notes == ("think_budget 9 is taken, not think high",)
    assert think_options({"think": "on", "think_budget": 9}).notes == ()


@pytest.mark.parametrize("think", [20, "low", "50%", 0])
@pytest.mark.parametrize("budget", [-1, "-1"])
def test_no_limit_wins_over_an_amount_and_says_so(think: object, budget: object) -> None:
    options = think_options({"think": think, "think_budget": budget})
    assert (options.mode, options.budget, options.level) == ("on", None, None)
    assert options.notes == (f"think_budget -1 is taken, not think {think}",)


@pytest.mark.parametrize("think", ["on", "off", "auto"])
def test_no_limit_is_no_switch(think: str) -> None:
    assert think_options({"think": think, "think_budget": -1}) == think_options({"think": think})


@pytest.mark.parametrize(
    ("layers", "result"),
    [
        ([{"think": "512"}, {}], {"think": "512"}),
        ([{"think": "512"}, {"think": "off"}], {"think": "off"}),
        ([{"think": "off"}, {"think": 64}], {"think": 64}),
        ([{"think": "512"}, {"think_budget": 9}], {"think_budget": 9}),
        ([{"think_budget": 9}, {"think": "high"}], {"think": "high"}),
        ([{"think_budget": 9}, {"think": "off"}], {"think": "off"}),
        ([{"think": "off"}, {"think_budget": 9}], {"think_budget": 9}),
        ([{"think_min": 5}, {"think": 9}], {"think_min": 5, "think": 9}),
        # To turn it on is not to lift a limit.
        ([{"think_budget": 9}, {"think": True}], {"think_budget": 9}),
        ([{"think": "25%"}, {"think": "on"}], {"think": "25%"}),
        ([{"think_budget": 0}, {"think": True}], {"think": True}),
        ([{"think_budget": -1}, {"think": True}], {"think": True}),
        ([{"think": "off"}, {"think": True}], {"think": True}),
        ([{"think": 8}, {"think_budget": 9}, {"think": 10}], {"think": 10}),
    ],
)
def test_later_layers_win(layers: list[dict[str, object]], result: dict[str, object]) -> None:
    assert merged(*layers) == result


@pytest.mark.parametrize(
    ("window", "reserve"), [(4000, 1000), (800, 256), (400, 200), (100, 50), (3, 1), (1, 1)]
)
def test_the_reserve_is_a_quarter_of_large_windows_and_half_of_tiny_ones(window: int, reserve: int) -> None:
    assert resolve(ThinkOptions(), window, 0).budget == window - reserve


@pytest.mark.parametrize("level", LEVELS)
def test_levels_are_shares_of_the_window(level: str) -> None:
    limits = resolve(think_options({"think": level, "think_reserve": 10}), 1000, 3)
    assert limits.budget == limits.requested == int(LEVELS[level] * 1000)


def test_a_budget_leaves_room_for_the_end_and_the_answer() -> None:
    limits = resolve(think_options({"think": 5000}), 4000, 7)
    assert limits.budget == 4000 - 1000 - 7
    assert limits.requested == 5000
    (note,) = limits.notes
    assert "2993 tokens, not 5000" in note


@pytest.mark.parametrize("window", range(1, 60))
@pytest.mark.parametrize("think", ["on", 3, 50, "100%", "max"])
def test_thought_end_and_answer_always_fit(window: int, think: object) -> None:
    for closing in (0, 3, 9):
        limits = resolve(think_options({"think": think, "think_reserve": 0}), window + 1, closing)
        assert limits.budget == 0 or limits.budget + closing + 1 <= window + 1


def test_a_ceiling_is_never_exceeded_and_told_where_more_was_asked() -> None:
    assert resolve(think_options({"think": 500}), 4000, 3, 100).budget == 100
    assert "100 tokens, the most" in resolve(think_options({"think": 500}), 4000, 3, 100).notes[0]
    assert resolve(ThinkOptions(), 4000, 3, 100) == resolve(ThinkOptions(), 4000, 3, 100)
    assert (resolve(ThinkOptions(), 4000, 3, 100).budget, resolve(ThinkOptions(), 4000, 3, 100).notes) == (
        100,
        [],
    )
    assert resolve(think_options({"think": 50}), 4000, 3, 100).notes == []


def test_a_minimum_is_of_the_budget_and_brings_rounds() -> None:
    limits = resolve(think_options({"think": 200, "think_min": "70%"}), 4000, 3)
    assert (limits.minimum, limits.rounds) == (140, 2)
    assert resolve(think_options({"think_min": 5, "think_rounds": 7}), 4000, 3).rounds == 7
    assert resolve(ThinkOptions(), 4000, 3).rounds == 0
    cut = resolve(think_options({"think_min": 300}), 300, 3)
    assert cut.minimum == cut.budget
    assert "do not fit" in cut.notes[-1]


def test_off_means_none_at_all() -> None:
    limits = resolve(think_options({"think": "off", "think_min": 9}), 4000, 3)
    assert (limits.budget, limits.minimum, limits.rounds) == (0, 0, 0)


def test_a_reserve_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(think_options({"think_reserve": 100}), 100, 3)
    assert caught.value.field == "think_reserve"
    assert resolve(think_options({"think_reserve": "50%"}), 100, 3).budget == 47
