"""Sizes, numbers and times read as Ollama writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from mull.cli.formats import (
    bits_in_words,
    columns,
    human_bytes,
    human_duration,
    human_number,
    human_time,
    printable,
)

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1500, "1.5 KB"),
        (637_000_000, "637 MB"),
        (999_999_999, "999 MB"),
        (2_019_393_189, "2.0 GB"),
        (4_661_224_676, "4.7 GB"),
        (12_999_000_000, "12 GB"),
        (3 * 10**12, "3 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (8_000_000_000, "8B"),
        (8_190_735_360, "8.2B"),
        (596_049_920, "596.05M"),
        (3_000_000, "3M"),
        (12_345, "12K"),
        (999, "999"),
    ],
)
def test_numbers(count: int, text: str) -> None:
    assert human_number(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "Less than a second"),
        (1.5, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"),
        (1.6 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_times_before_and_after_now() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert human_time(now - timedelta(hours=2), now) == "2 hours ago"
    assert human_time(now + timedelta(minutes=4), now) == "4 minutes from now"


@pytest.mark.parametrize(
    ("bits", "loss"),
    [(32, "as trained"), (8.5, "no measurable loss"), (4.85, "small loss"), (1.56, "very large loss")],
)
def test_bits_in_words(bits: float, loss: str) -> None:
    assert bits_in_words(bits) == f"{bits:.2f} bits per weight: {loss}"


def test_columns_align_and_end_without_blanks() -> None:
    assert columns([["NAME", "ID"], ["a-long-name", "1", "x"], ["b"]]) == [
        "NAME           ID",
        "a-long-name    1     x",
        "b",
    ]
    assert columns([]) == []


def test_what_a_file_says_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\t\u202e") == "a\\x1b[2Jb\\nc\\t\\u{202e}"
    assert printable("ümläut 漢字") == "ümläut 漢字"
