"""Commands that count: tokens, the context, what replies have cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....errors import InvalidRequest
from ...statistics import statistics, thinking_line
from ..status import context_text
from .command import Command

if TYPE_CHECKING:
    from ..app import Repl

_BAR = 30


def _tokens(repl: Repl, argument: str) -> None:
    """Count a text's tokens, or those of each message."""
    count = repl.chat.model.count_tokens
    if argument:
        repl.say(f"{count(argument):,} tokens")
        return
    rows = []
    for message in repl.chat.messages:
        thought = f" + {count(message.thinking):,} of thought" if message.thinking else ""
        start = " ".join(message.content.split())[:40]
        rows.append((f"{count(message.content):,}{thought}", f"{message.role}: {start}"))
    rows += [(f"{count(text):,}", f"to come: {text.splitlines()[0]}") for text in repl.chat.attached]
    repl.table(rows or [("0", "nothing was said yet")])


def _ctx(repl: Repl, argument: str) -> None:
    """Tell how full the context is."""
    chat = repl.chat
    total = chat.model.context_length
    used = chat.used
    filled = min(round(_BAR * used / total), _BAR)
    repl.say(f"[{'#' * filled}{'.' * (_BAR - filled)}] {context_text(used, total)}")
    if chat.setup.system is not None:
        repl.say(f"system message: {chat.model.count_tokens(chat.setup.system):,} tokens")
    coming = sum(chat.model.count_tokens(text) for text in chat.attached)
    if coming:
        repl.say(f"files to come: {coming:,} tokens")
    repl.say(f"left: {max(total - used - coming, 0):,} tokens")
    if chat.setup.overflow not in (None, "error"):
        repl.say(f"what does not fit is left out: {chat.setup.overflow}")


def _stats(repl: Repl, argument: str) -> None:
    """Tell what the last reply and all of them have cost."""
    reply, totals = repl.chat.reply, repl.chat.totals
    if reply is None:
        raise InvalidRequest("there is no reply yet")
    usage = reply.done.usage
    for line in statistics(reply):
        repl.say(line)
    fresh = usage.prompt_tokens - usage.cached_tokens
    share = fresh / usage.prompt_tokens if usage.prompt_tokens else 0.0
    repl.say(f"prompt reused:        {usage.cached_tokens} token(s); {fresh} new ({share:.1%})")
    if line := thinking_line(reply):
        repl.say(line)
    repl.say(f"seed {reply.done.seed} · ended by {reply.done.reason} · {repl.chat.model.backend}")
    if totals.replies > 1:
        repl.say(
            f"this chat: {totals.replies} replies, {totals.prompt_tokens:,} prompt tokens "
            f"({totals.cached_tokens:,} reused), {totals.completion_tokens:,} generated "
            f"({totals.thinking_tokens:,} of thought), {totals.seconds:.1f} s"
        )


COMMANDS = (
    Command("/tokens", "[TEXT]", "Count the tokens of a text, or of each message.", _tokens),
    Command("/ctx", "", "Show how full the context is.", _ctx),
    Command("/stats", "", "Show what the replies have cost.", _stats),
)
