"""What a reply answers, and what most replies answer."""

from __future__ import annotations

import pytest
from mull.cli.vote import final_answer, take_vote


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1032", "1032"),
        ("It is 1,032.", "1032"),
        ("347 + 685 = 1032", "1032"),
        ("The answer is 7, not 8 or 9.", "9"),
        (r"3, so \boxed{240}. Checked 9 times.", "240"),
        (r"\boxed{188} no: \boxed{240}", "240"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{+5}", "5"),
        ("Answer: Paris.", "paris"),
        ("the result =  **Blue  Whale**", "blue whale"),
        ("-3.50", "-3.50"),
        ("Yes!", "yes"),
        ("", ""),
        (" \n", ""),
    ],
)
def test_what_a_reply_answers(text: str, answer: str) -> None:
    assert final_answer(text) == answer


def test_the_majority_wins_with_its_first_reply() -> None:
    vote = take_vote(["I say 5", "7", "It is 7.", "", "the answer is 5", "7.0", "= 7"])
    assert (vote.answer, vote.votes, vote.total, vote.index) == ("7", 3, 7, 1)
    assert vote.counts == {"7": 3, "5": 2, "7.0": 1}
    assert str(vote) == "vote 3/7: 7 (others 2: 5, 1: 7.0)"


def test_of_equal_numbers_the_first_to_come_wins() -> None:
    assert take_vote(["2", "1", "1", "2"]).index == 0


def test_replies_without_an_answer_do_not_vote() -> None:
    assert take_vote(["", " ", "4"]).index == 2
    nothing = take_vote(["", ""])
    assert (nothing.votes, nothing.total, nothing.index, str(nothing)) == (0, 2, 0, "vote 0/2: ")


def test_one_answer_has_no_others() -> None:
    assert str(take_vote(["4"])) == "vote 1/1: 4"


def test_many_braces_are_read_quickly() -> None:
    assert final_answer(r"\boxed{" + "{}" * 20_000) != "x"
