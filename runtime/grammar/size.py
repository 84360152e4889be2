"""How large a regular expression is when its repetitions are written out: what following it costs at every token."""

from __future__ import annotations

import re

from ...errors import InvalidRequest

# About 1 ms at every token for each 1000 where one text is forced.
_LARGEST = 50_000

_REPEATED = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
_ESCAPE = re.compile(r"\\[pPxuU]\{[^}]*\}|\\.", re.DOTALL)
_CLASS_ITEM = re.compile(r"\\.|[^\]\[]", re.DOTALL)


def check_regex(regex: str, *, field: str, noun: str) -> None:
    """Raise InvalidRequest for an expression whose repetitions make it too large."""
    check_size(_size(regex), field=field, noun=noun)


def check_counts(grammar: str, *, field: str) -> None:
    """Raise InvalidRequest for a grammar with a single repetition that makes it too large."""
    counts = (int(number) for match in _REPEATED.finditer(grammar) for number in match.groups() if number)
    check_size(max(counts, default=0), field=field, noun="grammar")


def check_size(size: int, *, field: str, noun: str) -> None:
    """Raise InvalidRequest for a size beyond the largest that is followed."""
    if size > _LARGEST:
        raise InvalidRequest(
            f"the {noun} is too large to be followed: written out, its repetitions are more than {_LARGEST} long",
            field=field,
            hint="allow fewer repetitions, or nest them less",
        )


def _size(regex: str) -> int:
    """Return the number of characters and classes; whatever is wrong in the expression is found later."""
    sums, last, at = [0], 0, 0
    while at < len(regex):
        char = regex[at]
        repeated = _REPEATED.match(regex, at) if char == "{" else None
        if repeated is not None:
            count = max(int(number) for number in ("1", *repeated.groups()) if number)
            sums[-1] += last * (count - 1)
            last *= count
            at = repeated.end()
        elif char == "(":
            sums.append(0)
            at += 1
        elif char == ")" and len(sums) > 1:
            last = sums.pop()
            sums[-1] += last
            at += 1
        elif char in "*+?|":
            at += 1
        else:
            last = 1
            sums[-1] += 1
            at = _end_of_item(regex, at)
    return sum(sums)


def _end_of_item(regex: str, at: int) -> int:
    """Return where the escape, the class or the character at `at` ends."""
    if regex[at] == "\\":
        match = _ESCAPE.match(regex, at)
        return match.end() if match else at + 1
    if regex[at] != "[":
        return at + 1
    depth, at = 1, at + 1
    at += regex[at : at + 1] == "^"
    at += regex[at : at + 1] == "]"
    while at < len(regex) and depth:
        item = _CLASS_ITEM.match(regex, at)
        depth += 0 if item else 1 if regex[at] == "[" else -1
        at = item.end() if item else at + 1
    return at
