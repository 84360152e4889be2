"""Problems of the demo model "pocket": sums, chains modulo 11, balls under cups, each with its written steps.

A problem's held-out half is decided by a hash of what is asked, never of how it is phrased, so no
rephrasing of a held-out problem is ever trained on.
"""

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["add", "chain", "cups"]
Split = Literal["train", "heldout"]

KINDS: tuple[Kind, ...] = ("add", "chain", "cups")
MAX_SIZE: dict[Kind, int] = {"add": 6, "chain": 8, "cups": 12}
MODULUS = 11
NUM_CUPS = 5
HELDOUT_ONE_IN = 16


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem; `size` is digits, operations or swaps, `steps` are the thought's lines."""

    kind: Kind
    size: int
    key: str
    prompt: str
    steps: tuple[str, ...]
    answer: str

    @property
    def thought(self) -> str:
        """Give the written steps, one per line."""
        return "\n".join(self.steps)

    @property
    def is_heldout(self) -> bool:
        """Say whether this problem belongs to the held-out split."""
        return is_heldout(self.key)

    @property
    def result(self) -> str:
        """Give the number that the answer ends with."""
        return _numbers(self.answer)[-1]


def is_heldout(key: str) -> bool:
    """Say whether the problem with this canonical key is held out."""
    digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % HELDOUT_ONE_IN == 0


def make_problem(
    rng: random.Random, kind: Kind | None = None, size: int | None = None, split: Split = "train"
) -> Problem:
    """Draw one problem of a split; an open kind or size is drawn too."""
    while True:
        chosen = kind if kind is not None else rng.choice(KINDS)
        problem = _MAKERS[chosen](rng, size if size is not None else rng.randint(1, MAX_SIZE[chosen]))
        if problem.is_heldout == (split == "heldout"):
            return problem


def grade(problem: Problem, text: str) -> bool:
    """Say whether the last number after any thought is right; an unfinished thought is no answer."""
    answer = text.rpartition("</think>")[2]
    found = [] if "<think>" in answer else _numbers(answer)
    return bool(found) and found[-1] == problem.result


def add_steps(first: int, second: int) -> tuple[str, ...]:
    """Write an addition: both numbers at one width, then a column per line from the right."""
    width = max(len(str(first)), len(str(second)))
    left, right = str(first).zfill(width), str(second).zfill(width)
    lines, carry = [f"{left}+{right}"], 0
    for a, b in zip(reversed(left), reversed(right), strict=True):
        total = int(a) + int(b) + carry
        lines.append(f"{a}+{b}+{carry}={total:02d}")
        carry = total // 10
    return tuple(lines)


def chain_steps(start: int, operations: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """Write a chain: the running value after each operation."""
    lines, value = [], start
    for letter, (sign, operand) in zip(_LETTERS, operations, strict=False):
        after = apply_operation(value, sign, operand)
        lines.append(f"{letter}) {value}{sign}{operand}={after}")
        value = after
    return tuple(lines)


def cups_steps(start: int, swaps: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """Write the cups: where the ball is after each swap."""
    lines, place = [], start
    for letter, (a, b) in zip(_LETTERS, swaps, strict=False):
        place = apply_swap(place, (a, b))
        lines.append(f"{letter}) {a}{b}: {place}")
    return tuple(lines)


def apply_operation(value: int, sign: str, operand: int) -> int:
    """Apply one operation of a chain."""
    after = {"+": value + operand, "-": value - operand, "*": value * operand}[sign]
    return after % MODULUS


def apply_swap(place: int, swap: tuple[int, int]) -> int:
    """Move the ball if its cup is one of the two."""
    a, b = swap
    return b if place == a else a if place == b else place


_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _numbers(text: str) -> list[str]:
    return [str(int(digits)) for digits in re.findall(r"[0-9]+", text)]


def _case(rng: random.Random, text: str) -> str:
    draw = rng.random()
    if draw < 0.35:
        return text[0].upper() + text[1:]
    return text.upper() if draw < 0.37 else text


_ADD_PHRASES = (
    "{a} + {b}", "{a} + {b}", "{a}+{b}", "{a}+{b}", "{a}+{b}=", "{a} + {b} =", "{a} + {b} = ?",
    "{a}+{b}=?", "{a}+{b}?", "{a} + {b}?", "what is {a}+{b}?", "what is {a} + {b}?", "what is {a} + {b}",
    "what's {a} + {b}?", "add {a} and {b}", "add {a} to {b}.", "add {a} {b}", "{a} plus {b}",
    "what is {a} plus {b}?", "how much is {a} + {b}?", "the sum of {a} and {b}",
    "what is the sum of {a} and {b}?", "calculate {a} + {b}", "compute {a}+{b}",
    "can you add {a} and {b}?", "please add {a} and {b}", "solve {a} + {b}", "add: {a} + {b}",
    "add {a}, {b}", "{a} and {b} together?", "sum {a} {b}", "hi, what is {a} + {b}?", "tell me {a} + {b}",
)  # fmt: skip


def _add(rng: random.Random, size: int) -> Problem:
    """Draw a sum whose longer number has `size` digits."""
    low, high = (0 if size == 1 else 10 ** (size - 1)), 10**size - 1
    first = rng.randint(low, high)
    second = rng.randint(low, high) if rng.random() < 0.6 else rng.randint(0, 10 ** rng.randint(1, size) - 1)
    if rng.random() < 0.5:
        first, second = second, first
    prompt = _case(rng, rng.choice(_ADD_PHRASES).format(a=first, b=second))
    key = f"add {min(first, second)} {max(first, second)}"
    return Problem("add", size, key, prompt, add_steps(first, second), str(first + second))


_CHAIN_PHRASES = (
    "chain {x} mod 11", "chain {x} mod 11", "chain {x} mod 11", "chain: {x} mod 11", "chain {x} (mod 11)",
    "chain {x}", "{x} mod 11", "{x} mod 11", "{x} mod 11 =", "{x} (mod 11)", "{x} mod 11?",
    "what is {x} mod 11?", "what is {x} mod 11, left to right?", "chain {x} mod 11.",
    "calculate {x} mod 11", "compute the chain {x} mod 11", "follow the chain {x} mod 11",
    "left to right: {x} mod 11", "what does the chain {x} mod 11 give?",
)  # fmt: skip


def _chain(rng: random.Random, size: int) -> Problem:
    """Draw `size` operations, applied from left to right modulo 11."""
    start = rng.randint(0, MODULUS - 1)
    operations = tuple((rng.choice("++--*"), rng.randint(1, 9)) for _ in range(size))
    form = rng.choice((" {s}{n}", " {s}{n}", " {s} {n}", " {s} {n}", "{s}{n}"))
    written = str(start) + "".join(form.format(s=sign, n=operand) for sign, operand in operations)
    prompt = _case(rng, rng.choice(_CHAIN_PHRASES).format(x=written))
    value = start
    for sign, operand in operations:
        value = apply_operation(value, sign, operand)
    key = f"chain {start} " + " ".join(f"{sign}{operand}" for sign, operand in operations)
    return Problem("chain", size, key, prompt, chain_steps(start, operations), f"The chain gives {value}.")


_CUPS_PHRASES = (
    "ball {p}; swaps {s}", "ball {p}; swaps {s}", "ball {p}; swaps {s}", "ball {p} ; swaps {s}",
    "ball {p}, swaps {s}", "ball {p} swaps {s}", "ball {p}; {s}", "ball {p}: {s}",
    "cups: ball {p}; swaps {s}", "ball at {p}; swaps {s}", "ball in {p}, swap {s}",
    "ball under cup {p}; swaps {s}", "ball {p}; swaps {s}; where is the ball?",
    "ball {p}; swaps {s}. where is it?", "the ball is under cup {p}. swaps {s}. where is the ball?",
    "the ball starts under cup {p}; swap {s}", "where is the ball? ball {p}; swaps {s}",
    "ball={p} swaps={s}",
)  # fmt: skip


def _cups(rng: random.Random, size: int) -> Problem:
    """Draw `size` swaps of five cups."""
    start = rng.randint(1, NUM_CUPS)
    swaps = []
    for _ in range(size):
        a, b = rng.sample(range(1, NUM_CUPS + 1), 2)
        swaps.append((min(a, b), max(a, b)) if rng.random() < 0.7 else (a, b))
    separator = rng.choice((" ", " ", " ", ", ", ","))
    dash = rng.choice(("", "", "", "", "-"))
    written = separator.join(f"{a}{dash}{b}" for a, b in swaps)
    prompt = _case(rng, rng.choice(_CUPS_PHRASES).format(p=start, s=written))
    place = start
    for swap in swaps:
        place = apply_swap(place, swap)
    key = f"cups {start} " + " ".join(f"{min(swap)}{max(swap)}" for swap in swaps)
    return Problem(
        "cups", size, key, prompt, cups_steps(start, tuple(swaps)), f"The ball is under cup {place}."
    )


_MAKERS: dict[Kind, Callable[[random.Random, int], Problem]] = {"add": _add, "chain": _chain, "cups": _cups}
