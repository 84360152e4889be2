"""Scripted thoughts, case by case: where they end, what is put in, and what stays as it was."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from mull.runtime.thinking.automaton import Automaton
from mull.runtime.thinking.boundary import SENTENCE, weight
from mull.runtime.thinking.plan import ThinkingPlan, zones

from .simulation import (
    CLOSE,
    EOS,
    LETTERS,
    OPEN,
    PIECES,
    TAGS,
    TOOL,
    Run,
    ids_of,
    run,
    scripted,
    thinking_tokens,
    token_bytes,
)  # fmt: skip

MESSAGE = ids_of("d d.")


def plan(budget: int, **options: object) -> ThinkingPlan:
    """Return a plan that begins within a thought."""
    options = {"opened": True, "soft": 0.0, **options}
    return ThinkingPlan(options.pop("marks", TAGS), budget, **options)  # type: ignore[arg-type]


def reason(made: Run) -> str | None:
    return made.automaton.report().reason


def endless(tokens: list[int]) -> int:
    """Draw words that never come to an end, nor to a boundary."""
    return ids_of(" bee sea")[len(tokens) % 2]


# 1. A thought that ends by itself.


@pytest.mark.parametrize("opened", [True, False])
def test_a_natural_end_changes_nothing(opened):
    text = "a bee.\n sea</think>\n\n sea.<|im_end|>"
    script = text if opened else "<think>" + text
    made = run(plan(100, opened=opened, soft=0.75, message=MESSAGE), scripted(script))
    assert made.tokens == list(ids_of(script))
    assert (reason(made), made.automaton.report().injected) == ("natural", 0)
    assert made.automaton.num_thinking == 5


# 2. The budget is exact.


@pytest.mark.parametrize("budget", range(1, 41))
def test_the_cut_is_exact(budget):
    made = run(plan(budget), endless, most=80)
    assert reason(made) == "hard"
    assert thinking_tokens(made.tokens, opened=True) == made.automaton.num_thinking
    # Words are whole here: nothing need be taken back, and the line break before the tag counts too.
    assert made.automaton.num_thinking == budget


# 3. The message.


def test_a_message_comes_before_the_tag_and_within_the_budget():
    made = run(plan(40, message=MESSAGE), endless, most=80)
    assert "d d.\n</think>\n\n" in made.text
    assert made.automaton.num_thinking == 40


def test_a_message_too_long_for_the_budget_is_left_out():
    made = run(plan(10, message=MESSAGE), endless, most=40)
    assert "d d." not in made.text
    assert made.automaton.num_thinking == 10


# 4. How thoughts begin.


@pytest.mark.parametrize("opening", ["<think>", "<think>\n", "\n\n<think>", " <think>\n\n"])
def test_a_model_may_open_its_thought_itself(opening):
    made = run(plan(6, opened=False), scripted(opening, " bee" * 50), most=40)
    assert reason(made) == "hard"
    assert made.automaton.num_thinking <= 6
    assert made.text.count("</think>") == 1


def test_a_tag_that_shares_its_token_with_a_line_break():
    pieces = [*PIECES, b"<think>\n", b"</think>\n\n"]
    marks = replace(
        TAGS, single=frozenset(), close=(len(PIECES) + 1,), close_inside=0, end_id=len(PIECES) + 1
    )
    automaton = Automaton(plan(5, marks=marks, opened=False), lambda t: pieces[t], frozenset({EOS}))
    assert automaton.take(len(PIECES)) is None
    assert automaton.thinking
    verdicts = [automaton.take(LETTERS[b" bee"]) for _ in range(5)]
    assert verdicts[:4] == [None] * 4
    assert verdicts[4] is not None
    assert verdicts[4].inject == (len(PIECES) + 1,)
    assert automaton.num_thinking == 5


@pytest.mark.parametrize("text", ["a<think> bee", "< bee", "<think bee", "<<think>"])
def test_other_text_first_means_an_answer(text):
    made = run(plan(3, opened=False), scripted(text))
    assert reason(made) is None
    assert made.automaton.num_thinking == 0


# 5. Tags of several tokens.

SPELLED = replace(
    TAGS, close=ids_of("\n</") + ids_of("think>\n"), end_id=LETTERS[b"</"], single=frozenset(), tool_ids=()
)


def test_a_tag_of_several_tokens_ends_a_thought():
    made = run(plan(20, marks=SPELLED), scripted("a bee", *ids_of("</"), *ids_of("think"), *ids_of(">"), "d"))
    assert (reason(made), made.automaton.num_thinking) == ("natural", 2)


def test_half_a_tag_at_the_limit_is_taken_back_and_written_whole():
    made = run(plan(5, marks=SPELLED), scripted(" bee sea bee", *ids_of("</"), *ids_of("think"), "d"))
    assert reason(made) == "hard"
    assert made.text.startswith(" bee sea bee\n</think>\n")
    assert made.automaton.num_thinking <= 5


def test_half_a_tag_that_becomes_something_else_is_thought():
    made = run(
        plan(20, marks=SPELLED),
        scripted("a", *ids_of("</"), "d", *ids_of("</"), *ids_of("think"), *ids_of(">")),
    )
    assert made.automaton.num_thinking == 3
    assert made.text.startswith("a</d</think>")


# 6. Characters of several tokens.


@pytest.mark.parametrize("budget", range(2, 12))
@pytest.mark.parametrize("split", [(b"\xe7", b"\xad", b"\x89"), (b"\xf0\x9f", b"\x98\x80")])
def test_no_character_is_cut_in_two(budget, split):
    letters = [LETTERS[part] for part in split]
    made = run(plan(budget), lambda tokens: letters[len(tokens) % len(letters)], most=60)
    assert reason(made) == "hard"
    assert made.automaton.num_thinking <= budget
    thought = b"".join(map(token_bytes, made.tokens)).split(b"</think>")[0]
    thought.decode("utf-8")


# 7. and 8. Second thoughts, and tags in answers.


def test_a_turn_has_one_budget_for_all_its_thoughts():
    marks = replace(TAGS, interleaved=True)
    block = "<think> bee sea bee sea</think>d."
    made = run(plan(10, marks=marks, opened=False), scripted(block * 6, EOS), most=200)
    assert made.automaton.num_thinking <= 10
    assert made.text.count("<think>") in (2, 3)
    assert made.text.count("<think>") == made.text.count("</think>")


def test_after_its_end_a_thought_is_neither_opened_nor_ended_again():
    made = run(plan(4), scripted(" bee" * 9, OPEN, CLOSE, OPEN, "d", CLOSE))
    assert made.tokens.count(CLOSE) == 1
    assert OPEN not in made.tokens


def test_an_answer_may_quote_the_tag_as_text():
    made = run(plan(9), scripted(" bee</think>", *ids_of("</"), *ids_of("think"), *ids_of(">"), "d"))
    assert made.text.endswith("</think></think>d<|im_end|>")


# 9. and 10. Other ends.


def test_an_end_of_text_within_a_thought_is_followed_by_an_answer():
    made = run(plan(30), scripted(" bee", EOS, " sea"))
    assert made.text == " bee\n</think>\n\n sea<|im_end|>"
    assert reason(made) == "eos"


def test_an_answer_is_never_empty():
    made = run(plan(30), scripted(" bee</think>", EOS, EOS, EOS))
    assert made.text.split("</think>")[1].removesuffix("<|im_end|>")


def test_a_tool_call_ends_a_thought_where_the_family_says_so():
    made = run(plan(30, marks=replace(TAGS, tool_ends=True)), scripted(" bee", TOOL, "d"))
    assert made.text.startswith(" bee\n</think>\n\n<tool_call>d")
    assert reason(made) == "tool"


def test_elsewhere_a_tool_call_cannot_come_within_a_thought():
    made = run(plan(8), scripted(" bee", *[TOOL] * 9))
    assert "<tool_call>" not in made.text.split("</think>")[0]


# 11. More thinking.

WAIT = ids_of("\n bee")


def test_early_ends_are_answered_with_wait():
    made = run(
        plan(200, minimum=60, rounds=3, waits=(WAIT,)),
        scripted("a</think>", " sea d," * 4, CLOSE, "d d d d d d d d d,", CLOSE, " sea" * 80, CLOSE),
        most=300,
    )
    report = made.automaton.report()
    assert (report.rounds, report.reason) == (3, "natural")
    assert made.text.count("\n bee") == 3
    assert report.tokens >= 60


def test_ends_are_banned_right_after_wait():
    made = run(plan(200, minimum=100, rounds=1, waits=(WAIT,)), scripted("a", *[CLOSE] * 40))
    after = made.text.split("\n bee")[1].split("</think>")[0]
    assert len(ids_of(after)) == 8


@pytest.mark.parametrize("wait", ["\n bee", " sea<"])
def test_a_refused_end_of_several_tokens_is_forgotten(wait):
    marks = replace(SPELLED, close=ids_of("\n</think>"))
    words = ids_of(wait)
    automaton = Automaton(
        plan(90, marks=marks, minimum=60, rounds=2, waits=(words,)), token_bytes, frozenset({EOS})
    )
    for token in ids_of(" bee sea bee sea</think"):
        assert automaton.take(token) is None
    verdict = automaton.take(LETTERS[b">"])
    assert verdict is not None
    assert (verdict.drop, verdict.inject) == (3, words)
    assert automaton.num_held == wait.endswith("<")


def test_rounds_without_progress_are_the_last():
    made = run(
        plan(400, minimum=300, rounds=9, waits=(WAIT,)),
        lambda tokens: CLOSE if tokens[-1:] == [LETTERS[b"."]] and len(tokens) > 10 else
        (LETTERS[b"."] if tokens[-1:] == [LETTERS[b" sea"]] else LETTERS[b" sea"]),
        most=300,
    )  # fmt: skip
    assert made.automaton.report().rounds <= 3


def test_wait_needs_room():
    made = run(
        plan(14, minimum=14, rounds=9, waits=(WAIT,)), scripted(" sea" * 6, CLOSE, " sea" * 40), most=60
    )
    assert made.automaton.report().rounds == 0
    assert made.automaton.num_thinking <= 14


# 13. The soft zone.


def pulled(thought: str, budget: int, temperature: float = 0.0, lead: float = 4.0) -> bool:
    """Tell whether an end that is `lead` nats below the best token is chosen after a thought."""
    automaton = Automaton(plan(budget, soft=0.5), token_bytes, frozenset({EOS}))
    for token in ids_of(thought):
        assert automaton.take(token) is None
    logits = torch.zeros(len(PIECES))
    logits[LETTERS[b"d"]], logits[CLOSE] = 9.0, 9.0 - lead
    return automaton.choose(logits, temperature, random.Random(0)) == CLOSE


def test_an_end_is_favoured_late_and_at_boundaries_only():
    paragraph, amid = " bee" * 30 + ".\n\n", " bee" * 32
    assert pulled(paragraph, 40)
    assert not pulled(amid, 40)
    assert not pulled(" bee" * 10 + ".\n\n", 40)
    assert not pulled(paragraph, 40, lead=9.0)


def test_before_the_soft_zone_nothing_is_touched():
    automaton = Automaton(plan(100, soft=0.75), token_bytes, frozenset({EOS}))
    for token in ids_of(" bee" * 50 + "\n\n"):
        automaton.take(token)
    logits = torch.randn(len(PIECES), generator=torch.Generator().manual_seed(1))
    before, rng = logits.clone(), random.Random(3)
    state = rng.getstate()
    logits = automaton.apply(logits)
    assert automaton.choose(logits, 0.8, rng) is None
    logits[TOOL] = before[TOOL]  # a call is banned within thoughts, always
    assert torch.equal(logits, before)
    assert rng.getstate() == state


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_how_often_an_end_is_chosen_is_its_share_with_the_favour(temperature):
    automaton = Automaton(plan(40, soft=0.5), token_bytes, frozenset({EOS}))
    for token in ids_of(" bee" * 24 + "\n\n"):
        automaton.take(token)
    zone = zones(automaton.plan, 40)
    pull = 8.0 * ((25 - zone.soft) / (zone.land - zone.soft)) ** 2
    logits = torch.zeros(len(PIECES))
    logits[CLOSE] = -3.0
    biased = logits.clone()
    biased[CLOSE] += pull
    share = float((biased / temperature).softmax(-1)[CLOSE])
    rng = random.Random(5)
    chosen = sum(automaton.choose(logits.clone(), temperature, rng) == CLOSE for _ in range(4000))
    assert chosen / 4000 == pytest.approx(share, abs=0.03)


# 14. Landing, and what a cut takes back.


def test_the_last_tokens_end_at_the_first_boundary():
    made = run(plan(80, soft=0.75), scripted(" bee" * 74, ".", " sea" * 90))
    assert reason(made) == "landing"
    assert made.text.startswith(" bee" * 74 + ".\n</think>")


def test_a_cut_goes_back_to_the_last_sentence():
    made = run(plan(80, soft=1.0), scripted(" bee" * 65, ".", " sea" * 90))
    assert reason(made) == "hard"
    assert made.text.startswith(" bee" * 65 + ".\n</think>")
    assert made.automaton.report().discarded == 13
    bare = run(plan(80, soft=0.0), scripted(" bee" * 65, ".", " sea" * 90))
    assert bare.automaton.report().discarded == 0


# 15. Loops.


def test_a_loop_ends_the_thought():
    made = run(plan(2000, message=MESSAGE), endless, most=600)
    assert reason(made) == "loop"
    assert made.automaton.num_thinking < 300
    assert "d d.\n</think>" in made.text


def test_a_loop_may_be_nudged_first():
    nudge = ids_of("\n sea.")
    made = run(plan(2000, nudge=nudge), endless, most=900)
    assert made.text.count("\n sea.") == 1
    assert reason(made) == "loop"


def test_the_guard_can_be_off():
    made = run(plan(500, loop=0), endless, most=700)
    assert (reason(made), made.automaton.num_thinking) == ("hard", 500)


# 20. The user.


def test_the_user_may_end_a_thought():
    automaton = Automaton(plan(100, message=MESSAGE), token_bytes, frozenset({EOS}))
    assert automaton.take(LETTERS[b" bee"]) is None
    automaton.stop()
    verdict = automaton.take(LETTERS[b" sea"])
    assert verdict is not None
    assert verdict.inject == (*MESSAGE, *TAGS.close)
    assert automaton.report().reason == "user"
    automaton.stop()  # too late, and without effect
    assert automaton.take(LETTERS[b"d"]) is None


# Early exit.


def test_a_sure_answer_ends_the_thought():
    answer = ids_of("1 1\n")

    def draw(tokens: list[int]) -> int:
        tail = tokens[-len(answer) - 3 :]
        for n in range(len(answer) + 1):
            if tail[len(tail) - n - 3 : len(tail) - n] == [*TAGS.close[1:], LETTERS[b"a"]]:
                return answer[n] if n < len(answer) else EOS
        return LETTERS[b"."] if len(tokens) % 9 == 8 else LETTERS[b" bee"]

    made = run(plan(500, exit=0.5, loop=0, answer_prefix=ids_of("a")), draw, most=600)
    report = made.automaton.report()
    assert report.reason == "exit"
    assert 64 <= report.tokens < 300
    assert report.probe_tokens > 0
    assert made.text.count("</think>") == 1


# 25. Chinese.


@pytest.mark.parametrize("mark", "。！？")
def test_a_chinese_sentence_is_a_boundary(mark):
    assert weight(f"我们再想一想{mark}") == SENTENCE
