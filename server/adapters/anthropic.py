"""The anthropic dialect: its JSON as our requests, our events as its JSON."""

from __future__ import annotations

from ...errors import MullError


def error(failure: MullError) -> dict[str, object]:
    """Return the body that tells of an error."""
    return {"error": failure.message}
