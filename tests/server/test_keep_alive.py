"""Durations as requests and options write them."""

from __future__ import annotations

import pytest
from mull.errors import InvalidRequest
from mull.server.keep_alive import FOREVER, parse_keep_alive


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0.0),
        ("0", 0.0),
        (300, 300.0),
        (2.5, 2.5),
        ("10", 10.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        (".5s", 0.5),
        ("+5s", 5.0),
        (-1, FOREVER),
        ("-1", FOREVER),
        ("-1m", FOREVER),
        (1e300, 1e9),
        ("999999h", 1e9),
    ],
)
def test_seconds_and_durations_are_read(value: object, seconds: float | None):
    assert parse_keep_alive(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "m", "5x", "5 m", "m5", "1e3", "nan", float("nan"), float("inf"), True, [], {}, "5m" * 200 + "!"],
)
def test_everything_else_is_refused(value: object):
    with pytest.raises(InvalidRequest, match="keep_alive must be seconds or a duration"):
        parse_keep_alive(value)
