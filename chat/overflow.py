"""What becomes of a conversation that is longer than the context: whole turns are left out, and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .message import Message
from .request import ChatRequest
from .stream import Truncated

ANSWER_SHARE = 8  # the context keeps this part of itself free for an answer whose length nobody has limited


def fit(
    request: ChatRequest, count: Callable[[ChatRequest], int], context: int, max_tokens: int | None
) -> tuple[ChatRequest, Truncated | None]:
    """Leave out as few turns as make a conversation fit, with room for an answer; None where it fits as it is.

    "oldest" leaves out turns from the beginning, "middle" from the second turn on. System messages and the last turn
    stay; where they alone are too long, so does everything else, and the caller's own check says so.
    count: the tokens of the prompt of a request.
    """
    if request.overflow in (None, "error") or request.raw is not None:
        return request, None
    limit = context - max(1, min(max_tokens or context // ANSWER_SHARE, context // 2))
    whole = count(request)
    if whole <= limit:
        return request, None
    turns = _turns(request.messages)
    first = 1 if request.overflow == "middle" else 0
    most = len(turns) - 1 - first  # turns that may go
    if most < 1:
        return request, None

    def without(dropped: int) -> ChatRequest:
        gone = {index for turn in turns[first : first + dropped] for index in turn}
        return replace(
            request, messages=tuple(m for index, m in enumerate(request.messages) if index not in gone)
        )

    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if count(without(middle)) <= limit:
            high = middle
        else:
            low = middle + 1
    shorter = without(low)
    left = count(shorter)
    if left >= context:
        return request, None
    return shorter, Truncated(len(request.messages) - len(shorter.messages), whole - left)


def _turns(messages: Sequence[Message]) -> list[list[int]]:
    """Return the places of each turn's messages: what a user says and all that follows; none are system messages."""
    turns: list[list[int]] = []
    for index, message in enumerate(messages):
        if message.role == "system":
            continue
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(index)
    return turns
