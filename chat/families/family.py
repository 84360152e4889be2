"""What an output format is: the texts around a thought and a tool call, and the texts that end a turn."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..tool_calls.syntax import Syntax
from .switch import Switch


@dataclass(frozen=True, slots=True)
class Family:
    """One output format. Without tags there are no thoughts in it, only text.

    marker, more_markers: texts that only this family's templates hold, all of them; end_of_turn: the texts of tokens
    that end a reply; interleaved: thoughts may also come amid the answer; strip_history: the model is not shown its
    thoughts of earlier turns; tool_marks: other texts than tool_open with which a tool call begins; hidden: texts
    around an answer that are no part of it.

    How thoughts end: more_ends: other texts than close_tag that end them; close_text: what is written to end one by
    force, instead of close_tag and an empty line; close_lead: what stands between a thought and that; message: what is
    said before it where a thought is cut; waits, chinese_waits: said, in turn, instead of an end that comes too early;
    tool_ends_thought: a tool call ends a thought too; answer_prefix: what leads straight to the answer; unanswerable:
    texts of single tokens that have no place in an answer, beside the tags; off_text: what is put after a prompt
    whose template cannot say that there shall be no thought; call_close: what is written instead of close_text where a
    call of a tool must follow.

    Where a reply is several messages, each has a header: header_begins: the texts that one begins with; header_ends:
    those that it ends with, after which the message's text comes; answer_marks: what the headers of answers hold;
    answer_header: what stands between a thought's own end and the answer.

    tools: how calls of tools are written, if that is known; switch: the template's variables; budget_step: the
    numbers of tokens that it knows are multiples of this.
    """

    name: str
    marker: str | None = None
    more_markers: tuple[str, ...] = ()
    open_tag: str | None = None
    close_tag: str | None = None
    end_of_turn: tuple[str, ...] = ()
    tool_open: str | None = None
    tool_close: str | None = None
    tool_marks: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    interleaved: bool = False
    strip_history: bool = False
    more_ends: tuple[str, ...] = ()
    close_text: str | None = None
    close_lead: str = "\n"
    message: str = ""
    waits: tuple[str, ...] = ("\nWait",)
    chinese_waits: tuple[str, ...] = ("\n等等",)
    tool_ends_thought: bool = False
    answer_prefix: str = ""
    unanswerable: tuple[str, ...] = ()
    off_text: str = ""
    call_close: str | None = None
    header_begins: tuple[str, ...] = ()
    header_ends: tuple[str, ...] = ()
    answer_marks: tuple[str, ...] = ()
    answer_header: str = ""
    tools: Syntax | None = None
    switch: Switch = field(default_factory=Switch)
    budget_step: int = 1

    @property
    def can_think(self) -> bool:
        """Whether this model may produce thoughts."""
        return self.open_tag is not None and self.close_tag is not None

    @property
    def ends(self) -> tuple[str, ...]:
        """Every text that ends a thought, the usual one first."""
        return () if self.close_tag is None else (self.close_tag, *self.more_ends)

    @property
    def calls(self) -> tuple[str, ...]:
        """Every text with which a tool call begins."""
        return self.tool_marks if self.tool_open is None else (self.tool_open, *self.tool_marks)

    @property
    def forced_close(self) -> str:
        """What is written to end a thought by force."""
        return f"{self.close_tag}\n\n" if self.close_text is None else self.close_text

    def speaks(self, template: str) -> bool:
        """Tell whether a template is one of this family's."""
        return self.marker is not None and all(text in template for text in (self.marker, *self.more_markers))

    def template_opens(self, rendered_prompt: str) -> bool:
        """Tell whether the prompt ends within a thought, so that the reply begins in it."""
        return self.open_tag is not None and rendered_prompt.rstrip().endswith(self.open_tag.rstrip())
