"""Tests of stop strings: cut exactly, however the text is split into tokens."""

from __future__ import annotations

import itertools
import random

import fakes
import pytest
from mull.runtime.controls import StopText


def run(pieces: list[str], stop: tuple[str, ...]) -> tuple[list[str], str, bool]:
    """Feed pieces until stopped; return what each gave, what the finish gave, and whether it stopped."""
    text = StopText(fakes.Letters(pieces), stop)
    given = []
    for token in range(len(pieces)):
        given.append(text.feed(token))
        if text.is_stopped:
            break
    return given, text.finish(), text.is_stopped


def expected(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """The plain definition: the first stop string to be complete, of several there the longest."""
    for end in range(len(text) + 1):
        complete = [len(s) for s in stop if text[:end].endswith(s)]
        if complete:
            return text[: end - max(complete)], True
    return text, False


def splits(text: str) -> list[list[str]]:
    """Every way to cut a text into pieces."""
    found = []
    for cuts in itertools.product([False, True], repeat=len(text) - 1):
        pieces = [text[0]]
        for char, cut in zip(text[1:], cuts, strict=True):
            if cut:
                pieces.append(char)
            else:
                pieces[-1] += char
        found.append(pieces)
    return found


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("hello STOP x", ("STOP",)),
        ("ab\n\ncd", ("\n\n",)),
        ("aaaaab", ("aab",)),
        ("abcabcabd!", ("abcabd",)),
        ("one two", ("three", "two")),
        ("xabcd", ("bcd", "c")),
        ("xabcd", ("abcd", "bcd", "cd")),
        ("never", ("STOP",)),
        ("ends in ST", ("STOP",)),
        ("STOP", ("STOP",)),
        ("STSTOPx", ("STOP", "TOS")),
    ],
)
def test_every_split_of_a_text_is_cut_at_the_same_place(text, stop):
    wanted = expected(text, stop)
    for pieces in splits(text):
        given, rest, stopped = run(pieces, stop)
        assert ("".join(given) + rest, stopped) == wanted, pieces


@pytest.mark.parametrize("seed", range(30))
def test_random_texts_and_stop_strings(seed):
    rng = random.Random(seed)
    for _ in range(50):
        text = "".join(rng.choices("ab", k=rng.randint(1, 30)))
        stop = tuple("".join(rng.choices("ab", k=rng.randint(1, 6))) for _ in range(rng.randint(0, 3)))
        pieces, at = [], 0
        while at < len(text):
            size = rng.randint(1, 5)
            pieces.append(text[at : at + size])
            at += size
        given, rest, stopped = run(pieces, stop)
        assert ("".join(given) + rest, stopped) == expected(text, stop)


def test_text_is_held_back_only_while_it_may_begin_a_stop_string():
    assert run(["x", "S", "T", "A"], ("STOP",))[0] == ["x", "", "", "STA"]
    assert run(["ab", "c"], ("bd",))[0] == ["a", "bc"]


def test_without_stop_strings_text_passes_at_once():
    assert run(["a", "b"], ())[0] == ["a", "b"]


def test_text_after_a_stop_is_dropped():
    text = StopText(fakes.Letters(["a!b", "c"]), ("!",))
    assert text.feed(0) == "a"
    assert text.feed(1) == ""
    assert text.finish() == ""


def test_a_stop_string_may_end_in_what_the_flush_gives():
    class Late(fakes.Letters):
        def flush(self) -> str:
            return "P!"

    text = StopText(Late(["STO"]), ("STOP",))
    assert text.feed(0) == ""
    assert text.finish() == ""
    assert text.is_stopped
