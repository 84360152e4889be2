"""The demo model's problems are right, split for good, and rendered as its chat template renders them."""

import random
import re

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from mull.models.pocket.dialogues import CHAT_TEMPLATE, Mix, chat_prompt, make_dialogue
from mull.models.pocket.problems import (
    KINDS,
    MAX_SIZE,
    MODULUS,
    add_steps,
    chain_steps,
    cups_steps,
    grade,
    is_heldout,
    make_problem,
)


def solve_from_prompt(kind: str, prompt: str) -> int:
    """Read the problem back out of its prompt and solve it another way than the steps do."""
    text = prompt.lower()
    if kind == "add":
        return sum(int(number) for number in re.findall(r"\d+", text))
    if kind == "chain":
        text = text.replace("mod 11", "").replace(" ", "")
        start = re.search(r"\d+", text)
        value = int(start[0])
        for sign, number in re.findall(r"([-+*])(\d)", text[start.end() :]):
            value = eval(f"{value}{sign}{number}")
        return value % MODULUS
    place, *swaps = re.findall(r"\d", text)
    cups = [str(i) for i in range(1, 6)]
    for a, b in zip(swaps[::2], swaps[1::2], strict=True):
        i, j = int(a) - 1, int(b) - 1
        cups[i], cups[j] = cups[j], cups[i]
    return cups.index(place) + 1


@pytest.mark.parametrize("kind", KINDS)
def test_answers_follow_from_the_prompt(kind):
    rng = random.Random(1)
    for _ in range(500):
        problem = make_problem(rng, kind)
        assert int(problem.result) == solve_from_prompt(kind, problem.prompt), problem.prompt
        assert len(problem.steps) == problem.size + (kind == "add")


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_steps_hold_the_answer(kind):
    rng = random.Random(2)
    for _ in range(200):
        problem = make_problem(rng, kind)
        values = [re.findall(r"\d+", line)[-1] for line in problem.steps]
        digits = values[-1] + "".join(value[-1] for value in reversed(values[1:-1]))
        assert int(problem.result) == int(digits if kind == "add" else values[-1])


def test_steps_are_written_so():
    assert add_steps(12, 345) == ("012+345", "2+5+0=07", "1+4+0=05", "0+3+0=03")
    assert add_steps(95, 7) == ("95+07", "5+7+0=12", "9+0+1=10")
    assert chain_steps(7, (("+", 4), ("*", 3), ("-", 5))) == ("a) 7+4=0", "b) 0*3=0", "c) 0-5=6")
    assert cups_steps(3, ((1, 3), (2, 5), (1, 4))) == ("a) 13: 1", "b) 25: 1", "c) 14: 4")


@pytest.mark.parametrize("kind", KINDS)
def test_splits_never_meet(kind):
    rng = random.Random(3)
    trained = {make_problem(rng, kind).key for _ in range(3000)}
    heldout = {make_problem(rng, kind, split="heldout").key for _ in range(300)}
    assert not trained & heldout
    assert not any(map(is_heldout, trained))
    assert all(map(is_heldout, heldout))


def test_heldout_ignores_the_phrasing():
    rng = random.Random(4)
    keys = {}
    for _ in range(4000):
        problem = make_problem(rng, "cups", 1)
        keys.setdefault(problem.key, set()).add(problem.prompt)
    assert all(len(prompts) > 10 for prompts in keys.values())


def test_a_seed_fixes_the_problems():
    draws = []
    for _ in range(2):
        rng = random.Random(5)
        draws.append([make_problem(rng, split="heldout") for _ in range(20)])
    assert draws[0] == draws[1]


def test_sizes_and_kinds_are_obeyed():
    rng = random.Random(6)
    for kind in KINDS:
        for size in range(1, MAX_SIZE[kind] + 1):
            problem = make_problem(rng, kind, size)
            assert (problem.kind, problem.size) == (kind, size)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("357", True),
        ("It is 357.", True),
        ("12 + 345 = 357", True),
        ("<think>\n1+4+0=05\n</think>\n\n357", True),
        ("358", False),
        ("<think>\n357", False),
        ("<think>\n357\n</think>\n\nno number", False),
        ("", False),
    ],
)
def test_grade(text, right):
    rng = random.Random(7)
    problem = next(p for p in iter(lambda: make_problem(rng, "add", 3), None) if p.result != "358")
    assert grade(problem, text.replace("357", problem.result)) is right


def test_dialogues_teach_only_right_values():
    rng = random.Random(8)
    mix = Mix(off_topic=0.0, recheck=1.0, slip=1.0, arrow=0.0, no_think=0.0)
    for _ in range(300):
        segments = make_dialogue(rng, mix, MAX_SIZE)
        text = "".join(segment.text for segment in segments)
        thought = text[text.rindex("<think>") :]
        first, second, third = thought.partition("</think>")[0].split("Wait, check again.\n")
        assert second == third
        assert first.removeprefix("<think>\n") != second
        unlearned = [s.text for s in segments if not s.learned and "<|im_start|>" not in s.text]
        assert len(unlearned[-1].strip()) <= 2


def test_dialogues_never_teach_a_prompt():
    rng = random.Random(9)
    for _ in range(300):
        for segment in make_dialogue(rng, Mix(bare=0.0), MAX_SIZE):
            assert not (segment.learned and "<|im_start|>" in segment.text)


def render(messages, **switches):
    template = ImmutableSandboxedEnvironment().from_string(CHAT_TEMPLATE)
    return template.render(messages=messages, add_generation_prompt=True, **switches)


def test_template_is_what_was_trained():
    messages = [{"role": "user", "content": "12 + 345"}]
    assert render(messages) == chat_prompt("12 + 345")
    assert render(messages, enable_thinking=True) == chat_prompt("12 + 345")
    assert render(messages, enable_thinking=False) == chat_prompt("12 + 345", think=False)


@pytest.mark.parametrize(
    "answer",
    [
        {"content": "<think>\n1+1+0=02\n</think>\n\n2"},
        {"content": "2", "reasoning_content": "1+1+0=02"},
        {"content": "2"},
    ],
)
def test_template_drops_thoughts_from_the_history(answer):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1"},
        {"role": "assistant", **answer},
        {"role": "user", "content": "2+2"},
    ]
    assert render(messages) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1<|im_end|>\n"
        "<|im_start|>assistant\n2<|im_end|>\n" + chat_prompt("2+2")
    )
