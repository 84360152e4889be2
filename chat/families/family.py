"""What an output format is: the texts around a thought and a tool call, and the texts that end a turn."""

from __future__ import annotations

from dataclasses import dataclass, field

from .switch import Switch


@dataclass(frozen=True, slots=True)
class Family:
    """One output format. Without tags there are no thoughts in it, only text.

    marker: a text that only this family's templates hold; end_of_turn: the texts of tokens that end a reply;
    interleaved: thoughts may also come amid the answer; strip_history: the model is not shown its thoughts of
    earlier turns.
    """

    name: str
    marker: str | None = None
    open_tag: str | None = None
    close_tag: str | None = None
    end_of_turn: tuple[str, ...] = ()
    tool_open: str | None = None
    tool_close: str | None = None
    interleaved: bool = False
    strip_history: bool = False
    switch: Switch = field(default_factory=Switch)

    @property
    def can_think(self) -> bool:
        """Whether this model may produce thoughts."""
        return self.open_tag is not None and self.close_tag is not None

    def template_opens(self, rendered_prompt: str) -> bool:
        """Tell whether the prompt ends within a thought, so that the reply begins in it."""
        return self.open_tag is not None and rendered_prompt.rstrip().endswith(self.open_tag.rstrip())
