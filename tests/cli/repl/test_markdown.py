"""Markdown on a terminal: nothing is lost, code copies as it is, and what is settled is never changed again."""

from __future__ import annotations

import pytest
from mull.cli.repl.markdown import code_blocks, render_markdown, settled
from mull.cli.repl.plain import render_plain, settled_plain
from rich.cells import cell_len

DOCUMENT = """# A title

Some *words* and **more** with `code`,
a second line, Vec<T>, <b>no tag</b> and [a link](http://x.y).

1. one
2. two
   ```python
   nested = "code that is longer than the terminal is wide, and must be there all the same"
   ```
- a
- b
    - c

> a quotation

| name | value |
|------|------:|
| pi   | 3.14  |

***

```python
def f(x):
    return x


print(f(1))
```
[note]: http://nowhere
![picture](a.png)

The end
"""


def text(lines: list[list]) -> str:
    return "\n".join("".join(segment.text for segment in line) for line in lines)


def test_nothing_is_lost() -> None:
    shown = text(render_markdown(DOCUMENT, 80))
    for part in (
        "A title", "Some words and more with code,\na second line", "Vec<T>", "<b>no tag</b>", "a link",
        "(http://x.y)", "1. one", "2. two", "must be there all the same", "• a", "• c", "a quotation", "3.14",
        "[note]: http://nowhere", "[picture] (a.png)", "The end",
    ):  # fmt: skip
        assert part in shown, part


def test_code_stands_alone_without_frame_or_spaces() -> None:
    code = 'def f(x):\n    return "' + "x" * 100 + '"\n\n\nf(1)'
    assert text(render_markdown(f"```python\n{code}\n```", 40)) == code


@pytest.mark.parametrize("width", [4, 20, 80])
def test_only_code_is_wider_than_the_terminal(width: int) -> None:
    prose = DOCUMENT.replace("must be there all the same", "").replace("```", "")
    for line in render_markdown(prose, width):
        row = "".join(segment.text for segment in line)
        assert row == row.rstrip(" ")
        if width > 10:
            assert cell_len(row) <= width


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_settled_blocks_are_those_of_the_whole(size: int) -> None:
    """Laid out block by block as the text comes, and with blank lines between, it looks as if it came at once."""
    pieces, rest = [], ""
    for start in range(0, len(DOCUMENT), size):
        rest += DOCUMENT[start : start + size]
        done = "more"
        while done:
            done, rest, joint = settled(rest)
            assert not joint
            pieces += [done] if done else []
    assert "".join([*pieces, rest]) == DOCUMENT
    shown = "\n\n".join(text(render_markdown(piece, 80)) for piece in [*pieces, rest])
    assert shown == text(render_markdown(DOCUMENT, 80))
    if size == 1:
        assert len(pieces) == 9


def test_an_open_block_is_not_settled() -> None:
    for open_text in (
        "a paragraph\nthat goes on\n",
        "- a\n- b\n\n",
        "```\nfoo\n\nbar\n",
        "| a |\n|---|\n| 1 |\n",
    ):
        assert settled(open_text) == ("", open_text, False)


def test_long_code_is_settled_as_it_comes() -> None:
    lines = [f"line {number}" for number in range(100)]
    rest, shown = "```c\n" + "\n".join(lines) + "\n", []
    done, rest, joint = settled(rest)
    while done:
        assert joint
        shown += text(render_markdown(done, 80)).splitlines()
        done, rest, joint = settled(rest)
    assert len(shown) >= 40
    assert rest.startswith("```c\n")
    shown += text(render_markdown(rest + "```\n", 80)).splitlines()
    assert shown == lines


def test_a_long_list_keeps_its_numbers() -> None:
    source = "".join(f"{number}. item {number}\n" for number in range(1, 101))
    rest, shown = source, ""
    done, rest, joint = settled(rest)
    while done:
        assert joint
        shown += text(render_markdown(done, 80)) + "\n"
        done, rest, joint = settled(rest)
    shown += text(render_markdown(rest, 80))
    assert [line.strip() for line in shown.splitlines()] == source.splitlines()


def test_a_line_without_end_is_settled_in_pieces() -> None:
    done, rest, joint = settled("word " * 10_000)
    assert done
    assert joint
    assert done + rest == "word " * 10_000
    assert len(done) < 20_000
    assert settled_plain("x" * 50_000)[0]


def test_the_code_of_an_answer_is_found() -> None:
    assert code_blocks(DOCUMENT)[-1] == "def f(x):\n    return x\n\n\nprint(f(1))\n"
    assert len(code_blocks(DOCUMENT)) == 2


def test_plain_lines_break_between_words() -> None:
    lines = render_plain("  one two three\n\n" + "x" * 12 + " 漢字漢字漢字", 10)
    assert text(lines) == "  one two\nthree\n\nxxxxxxxxxx\nxx\n漢字漢字漢\n字"
    assert text(render_plain("one two three", 5, wrap=False)) == "one two three"
    assert settled_plain("one\ntwo\nthr") == ("one\ntwo\n", "thr", True)
