"""The line that says where a conversation stands: model, context, thinking, speed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

WARN = 0.85
"""The share of the context from which on the user is warned."""

_GAP = " · "


def context_text(used: int, total: int) -> str:
    """Write how full the context is: `1,204/4,096 29%`."""
    return f"{used:,}/{total:,} {used / total:.0%}" if total else f"{used:,}"


def think_text(options: dict[str, object], *, can_think: bool) -> str:
    """Write what is set for thinking; nothing for a model that has no thoughts."""
    if not can_think:
        return ""
    how = options.get("think_budget", options.get("think", "auto"))
    return f"think {how}"


def rate_text(rate: float) -> str:
    """Write a speed; nothing where there is none."""
    return f"{rate:.0f} tok/s" if rate >= 10 else f"{rate:.1f} tok/s" if rate > 0 else ""


def status_text(parts: Sequence[str], width: int) -> str:
    """Join as many parts as fit; the first is shortened where even that is too wide."""
    kept = [part for part in parts if part]
    while len(kept) > 1 and cell_len(_GAP.join(kept)) > width:
        kept.pop()
    text = _GAP.join(kept)
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)) + "…"


def full_note(used: int, total: int) -> str | None:
    """Return a warning for a context that is nearly full."""
    if not total or used < WARN * total:
        return None
    left = max(total - used, 0)
    return (
        f"the context is {used / total:.0%} full, {left:,} tokens are left (/ctx, /undo, /clear, --num-ctx)"
    )
