"""The last look at an answer: whether it keeps to its constraint, whole."""

from __future__ import annotations

from ...errors import InvalidRequest, MullError
from .constraint import Conformity, Constraint
from .library import byte_tokenizer, library_grammar, new_matcher


def conformity(text: str, constraint: Constraint) -> Conformity:
    """Tell whether an answer is valid, the beginning of a valid one, or neither.

    White space before it does not count. Raises InvalidRequest for a constraint that cannot be enforced, or that
    names tokens of the model: those are no text.
    """
    found = [_follow(candidate, constraint) for candidate in dict.fromkeys((text, text.lstrip()))]
    return min(found, key=("valid", "incomplete", "invalid").index)


def validate(text: str, constraint: Constraint) -> None:
    """Raise MullError unless an answer is valid, saying whether it was only cut short."""
    try:
        found = conformity(text, constraint)
    except InvalidRequest:
        return
    if found == "incomplete":
        raise MullError(
            "the answer ends before its format is complete", hint="allow more tokens (--num-predict)"
        )
    if found == "invalid":
        raise MullError("the answer does not have the format that was asked for")


def _follow(text: str, constraint: Constraint) -> Conformity:
    matcher = new_matcher(byte_tokenizer(), library_grammar(constraint), constraint)
    data = list(text.encode("utf-8", "replace"))
    if matcher.try_consume_tokens(data) < len(data):
        return "invalid"
    return "valid" if matcher.is_accepting() else "incomplete"
