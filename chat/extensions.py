"""What every dialect adds to its replies in one form: how the thoughts were limited, and what was left out."""

from __future__ import annotations

from dataclasses import asdict

from .stream import Done, Thinking


def thinking_json(thinking: Thinking) -> dict[str, object] | None:
    """Return the report on the thinking budget; None for a model that cannot think."""
    report = thinking.report
    if report is None:
        return None if thinking.enforced else {"enforced": False}
    return {
        **asdict(report),
        "duration_ms": round(report.duration_ms, 3),
        "utilisation": round(report.utilisation, 4),
        "min_extended": report.rounds,
        "enforced": thinking.enforced,
        "notes": list(thinking.notes),
    }


def extensions(done: Done) -> dict[str, object]:
    """Return the fields `thinking` and `truncated` of a reply's end, those that there are."""
    found: dict[str, object] = {}
    thinking = thinking_json(done.thinking)
    if thinking is not None:
        found["thinking"] = thinking
    if done.truncated is not None:
        found["truncated"] = asdict(done.truncated)
    return found
