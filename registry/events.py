"""What a pull or a push tells whoever watches it, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["step", "progress", "note", "warning"]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of news; with a digest, how many of a blob's bytes are there.

    kind "step": what is done now; "progress": how far a blob is; "note" and "warning": what a user should know.
    rate: bytes a second; seconds_left: at that rate; name: the file that it is about.
    """

    status: str
    kind: Kind = "step"
    digest: str | None = None
    total: int | None = None
    completed: int | None = None
    rate: float | None = None
    seconds_left: float | None = None
    name: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return Ollama's status object, with rate and time left beside it where they are known."""
        out: dict[str, object] = {"status": self.status}
        for key in ("digest", "total", "completed"):
            if (value := getattr(self, key)) is not None:
                out[key] = value
        if self.name is not None:
            out["file"] = self.name
        if self.rate:
            out["rate"] = round(self.rate)
        if self.seconds_left is not None:
            out["seconds_left"] = round(self.seconds_left, 1)
        if self.kind in ("note", "warning"):
            out["kind"] = self.kind
        return out


Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """Tell nobody."""
