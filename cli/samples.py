"""Many answers to one question, all of them or the one that most agree on."""

from __future__ import annotations

from .conversation import Conversation
from .report import Report
from .vote import take_vote


def answer_many(
    conversation: Conversation, text: str, count: int, report: Report, *, vote: bool, raw: bool
) -> None:
    """Ask `count` times at once; print every answer, or with `vote` the first of those that most agree with."""
    replies = conversation.ask_many(text, count, raw=raw)
    report.several(replies, take_vote([reply.text for reply in replies]) if vote else None)
