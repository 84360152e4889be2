"""The loop guard on texts: what goes in circles is noticed soon, and what only repeats a part of itself is not."""

from __future__ import annotations

import re

import pytest
from mull.runtime.thinking.loops import LoopGuard


def noticed(text: str, repeats: int = 3) -> int | None:
    """Return after how many tokens, of a word or a few signs each, a text is taken for a loop."""
    guard = LoopGuard(repeats)
    for count, piece in enumerate(pieces(text), 1):
        if guard.feed(hash(piece), piece):
            return count
    return None


def pieces(text: str) -> list[str]:
    return re.findall(r"\s?\w{1,6}|\n+| +|[^\w\s]", text)


def lines(*rows: str) -> str:
    return "".join(row + "\n" for row in rows)


MONTHS = ("January", "February", "March")
TABLES = "".join(
    f"\nTable {t}: sales of region {t}\n" + lines("| Month | Units | Price |", "| --- | --- | --- |")
    + lines(*(f"| {month} | {t * 7 + i * 3} | {t * 1.5 + i} |" for i, month in enumerate(MONTHS)))
    for t in range(1, 9)
)  # fmt: skip
GETTERS = "".join(
    lines(
        f"def get_{name}(self):", f"    if self._{name} is None:", '        raise ValueError("not set")',
        f"    return self._{name}", "",
    )
    for name in ("name", "age", "size", "color", "weight", "height", "price", "shape", "brand", "origin")
)  # fmt: skip
SONG = "".join(
    lines(
        f"Verse {number} sings of {what}", f"And nobody knows the {what} I've seen",
        f"When {what} comes I wander home", "Chorus now, sing along with me", "Oh the river runs to the sea",
        "Rolling on for you and me", "",
    )
    for number, what in enumerate(("rain", "snow", "wind", "sun", "night", "frost"))
)  # fmt: skip
CASES = "".join(
    f"Case {n}: n = {n}.\nThen n squared is {n * n}.\nSo this case does not work.\n\n" for n in range(2, 40)
)
VERDICTS = "".join(
    f"{n * 37 + 1}? No, that fails again. We need another one. It cannot be even. " for n in range(40)
)
OBJECTS = "".join(
    lines("  {", f'    "name": "field{n}",', '    "type": "integer",', '    "required": true,', "  },")
    for n in range(30)
)
GRID = "".join(". . . # . . . .\n" if row % 3 else ". # . . . . # .\n" for row in range(24))


@pytest.mark.parametrize(
    "text",
    [
        TABLES,
        GETTERS,
        SONG,
        CASES,
        VERDICTS,
        OBJECTS,
        GRID,
        ", ".join(map(str, range(400))),
        "[" + ", ".join(["0"] * 150) + "]",
        "\n".join(" ".join(["0", "1"] * 6) for _ in range(12)),
        lines(*("| 0 | 0 | 0 | 0 | 0 | 0 |" for _ in range(20))),
        "3.141592653589793 2.718281828459045 1.4142135623730951 " + "0.3333333333333333 " * 9,
        " " * 60 + "x",
    ],
    ids=[
        "tables", "getters", "song", "cases", "verdicts", "objects", "grid", "numbers", "zeros", "bits",
        "empty cells", "decimals", "spaces",
    ],
)  # fmt: skip
def test_what_only_repeats_a_part_of_itself_is_no_loop(text: str) -> None:
    assert noticed(text) is None


INTRODUCTION = (
    "We are asked for the number of ways to seat five people around a table. The seats are alike, so that only "
    "the order counts. There are four factorial orders, which makes twenty-four. Two of them must not sit side "
    "by side, though. Let us count those in which they do. A pair is one person with two orders, so there are "
    "twelve. Twenty-four less twelve leaves twelve ways in all. That seems to be right, but it may be looked at "
    "once more. The first person may sit anywhere, and the others follow around the table in some order. "
)
PARAGRAPH = (
    "Wait, but what if the door is locked from the inside. Then nobody could have come in before midnight. The "
    "gardener had the key, as we know. He was away at that time. Perhaps there is another key. The cook might "
    "know of one. She said that there was none. Let me think about it again. "
)
LONG = " ".join(
    f"The {noun} stands beside the {other}, and what was said of the {noun} is that it is as old as the house."
    for noun, other in zip(("table", "chair", "clock", "lamp", "mirror", "chest", "bench", "shelf"),
                           ("window", "door", "stove", "stairs", "wall", "gate", "hedge", "well"), strict=True)
) + " "  # fmt: skip


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("the " * 200, 112),
        ("!" * 200, 112),
        ("\U0001f600" * 200, 112),
        ("I am not sure about this. " * 40, 112),
        ("7+5+0=12\n" * 60, 112),
        ("a) 7+4=0\nb) 0*3=0\n" * 40, 80),
        ("Hmm.\nNo.\n" * 90, 112),
        ("0, " * 600, 528),
        ("我们再想一想。那么答案是三。" * 40, 112),
        (PARAGRAPH * 8, 3 * 75),
        (LONG * 6, 4 * 220),
        ("".join(LONG + f"This is round {n}. " + PARAGRAPH for n in range(9)), 4 * 320),
    ],
    ids=[
        "one token", "exclamations", "smileys", "one sentence", "an equation", "two equations", "two lines",
        "data without an end", "Chinese", "a paragraph", "a long paragraph", "with a counter",
    ],
)  # fmt: skip
def test_what_goes_in_circles_is_noticed_soon(text: str, within: int) -> None:
    assert noticed(INTRODUCTION) is None
    found = noticed(INTRODUCTION + text)
    assert found is not None
    assert found - len(pieces(INTRODUCTION)) <= within
