"""What a user should know of a reply: what limited it, what was left out, how full the context is."""

from __future__ import annotations

from ..statistics import Reply
from .status import full_note


def notes_on(reply: Reply, context_length: int) -> list[str]:
    """Return a line for each; most replies have none."""
    done, usage = reply.done, reply.done.usage
    notes = []
    if done.truncated is not None:
        gone = done.truncated
        notes.append(
            f"{gone.messages} older messages ({gone.tokens:,} tokens) did not fit into the context and were "
            "left out"
        )
    used = usage.prompt_tokens + usage.completion_tokens
    if done.reason == "length":
        full = used >= context_length
        limit = f"the context of {context_length:,} tokens is full" if full else "num_predict is reached"
        notes.append(f"{limit}, and the reply ends here")
    if done.reason == "repeat":
        notes.append("the answer went in circles, and ends here (/set parameter repeat_stop)")
    if done.conformity == "incomplete":
        notes.append("the answer ends before its format is complete")
    elif done.conformity == "invalid":
        notes.append("the answer does not have the format asked for")
    notes += done.thinking.notes
    if warning := full_note(used, context_length):
        notes.append(warning)
    return notes
