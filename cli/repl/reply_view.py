"""Shows one reply as it comes: how far the prompt is read, the thought, the answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.cells import cell_len

from ...chat.stream import Event, Progress, Reasoning, Text, ToolCallEvent
from ..terminal import ScreenFilter
from .markdown import render_markdown, settled
from .plain import render_plain, settled_plain
from .screen import Line, Screen, styled
from .status import rate_text, status_text

_READING_AFTER = 0.3  # seconds until it is told how far a prompt is read
_OPEN_ROWS = 12  # rows of an open thought that are shown while it grows


@dataclass(frozen=True, slots=True)
class Manner:
    """How replies are shown; open_thoughts: in full rather than folded."""

    open_thoughts: bool = False
    hide_thoughts: bool = False
    quiet: bool = False


class ReplyView:
    """Shows a reply.

        READING ──Reasoning──► THINKING ──Text──► ANSWERING
           └────────────────Text────────────────────►┘   (and back, for a model that thinks again)

    show() takes what comes, draw() brings the screen up to date, close() leaves nothing that still changes. What is
    settled is written once; of the rest only as much is shown as fits above the window's lower end.
    """

    def __init__(
        self,
        screen: Screen,
        manner: Manner,
        *,
        head: str,
        count: Callable[[str], int],
        budget: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.open_thoughts = manner.open_thoughts
        self._manner = manner
        self._screen, self._clock, self._count = screen, clock, count
        self._head, self._budget = head, budget
        self._started = clock()
        self._first: float | None = None
        self._num_events = 0
        self._progress: Progress | None = None
        self._thinking = False
        self._thought = self._answer = ""
        self._thought_began = 0.0
        self._counted = self._counted_to = 0
        self._filters = ScreenFilter(), ScreenFilter()
        self._finished: list[Line] = []
        self.showed_thought = False  # in full
        self._gap = False  # a blank line belongs before what comes next
        self._dirty = False  # a line has ended since the text was last divided

    def show(self, event: Event) -> None:
        """Take what has come."""
        if isinstance(event, Progress):
            self._progress = event
            return
        self._first = self._clock() if self._first is None else self._first
        self._num_events += 1
        if isinstance(event, Reasoning):
            self._think(self._filters[0].feed(event.text))
        elif isinstance(event, Text):
            self._end_thought()
            self._answer += self._filters[1].feed(event.text)
            self._dirty = self._dirty or "\n" in event.text or len(self._answer) > 8192
        elif isinstance(event, ToolCallEvent):
            self._end_thought()
            self._end_answer()
            arguments = json.dumps(dict(event.call.arguments), ensure_ascii=False)
            self._finish(
                render_plain(ScreenFilter().feed(f"{event.call.name}({arguments})"), self._screen.width)
            )

    def draw(self) -> None:
        """Bring the screen up to date."""
        while self._dirty:
            done, self._answer, joint = self._divide()
            if not done:
                self._dirty = False
            else:
                self._finish(self._lay_out(done), joint=joint)
        finished, self._finished = self._finished, []
        self._screen.update(finished, self._live())

    def close(self) -> None:
        """Settle everything."""
        self._end_thought()
        self._end_answer()
        self._screen.update(self._finished, [])
        self._finished = []
        self._screen.clear()

    def toggle(self) -> None:
        """Open or fold thoughts; may be called from another thread."""
        self.open_thoughts = not self.open_thoughts

    @property
    def thinking(self) -> bool:
        """Whether a thought is going on."""
        return self._thinking

    @property
    def rate(self) -> float:
        """Tokens per second, about."""
        seconds = 0.0 if self._first is None else self._clock() - self._first
        return (self._num_events - 1) / seconds if seconds > 0 and self._num_events > 1 else 0.0

    def _think(self, text: str) -> None:
        if not self._thinking:
            self._end_answer()
            self._thinking, self._thought, self._thought_began = True, "", self._clock()
            self._counted = self._counted_to = 0
        self._thought += text

    def _end_thought(self) -> None:
        """Settle a thought: in full where it is open, else as one line."""
        if not self._thinking:
            return
        self._thinking = False
        if self._manner.hide_thoughts:
            return
        seconds = self._clock() - self._thought_began
        if self.open_thoughts:
            self.showed_thought = True
            self._finish(thought_lines(self._thought, self._screen.width, wrap=self._screen.look.wrap))
        else:
            tokens = f"{self._count(self._thought):,} tokens"
            text = f"thought for {tokens}, {seconds:.1f} s · Ctrl-O shows it"
            self._finish([styled(status_text([text], self._screen.width), dim=True)])
        self._gap = True

    def _end_answer(self) -> None:
        text, self._answer, self._dirty = self._answer, "", False
        if text.strip():
            self._finish(self._lay_out(text.rstrip("\n")))

    def _finish(self, lines: list[Line], *, joint: bool = False) -> None:
        if not lines:
            return
        if self._gap:
            self._finished.append([])
        self._finished += lines
        self._gap = self._screen.look.markdown and not joint

    def _divide(self) -> tuple[str, str, bool]:
        return settled(self._answer) if self._screen.look.markdown else settled_plain(self._answer)

    def _lay_out(self, text: str) -> list[Line]:
        look = self._screen.look
        if not look.markdown:
            return render_plain(text.removesuffix("\n"), self._screen.width, wrap=look.wrap)
        return render_markdown(text, self._screen.width if look.wrap else 10_000)

    def _live(self) -> list[Line]:
        """Return what is still changing."""
        width = self._screen.width
        if self._thinking:
            return self._live_thought(width)
        rows: list[Line] = []
        if self._answer.strip():
            rows = [[]] if self._gap else []
            rows += self._lay_out(self._answer.rstrip("\n"))
        if self._manner.quiet:
            return rows
        if self._first is None:
            text = self._reading()
            return [*rows, styled(status_text([text], width), dim=True)] if text else rows
        text = status_text([rate_text(self.rate), "Ctrl-C stops", self._head], width)
        return [*rows, styled(text, dim=True)]

    def _live_thought(self, width: int) -> list[Line]:
        meter = f"thinking {self._tokens():,}" + (f"/{self._budget:,}" if self._budget else "")
        hint = "Ctrl-T answers now"
        if self._manner.hide_thoughts:
            return [styled(status_text([meter, hint], width), dim=True)]
        if self.open_thoughts:
            rows = thought_lines(self._thought, width, wrap=True)[-_OPEN_ROWS:]
            return [*rows, styled(status_text([meter, hint, "Ctrl-O folds"], width), dim=True)]
        tail = " ".join(self._thought[-2 * width :].split())
        room = width - cell_len(meter) - 3
        if room > 8 and tail:
            while cell_len(tail) > room:
                tail = tail[1:]
            meter = f"{meter} · {tail}"
        return [
            styled(status_text([meter], width), dim=True),
            styled(status_text([hint, "Ctrl-O shows the thought"], width), dim=True),
        ]

    def _reading(self) -> str:
        """Say how far the prompt is read, once that takes a while."""
        at = self._progress
        seconds = self._clock() - self._started
        if seconds < _READING_AFTER:
            return ""
        if at is None or not at.total or at.done >= at.total:
            return "reading ..." if at is None else ""
        left = seconds * (at.total - at.done) / at.done if at.done else 0.0
        rest = f" · {left:.0f} s left" if left >= 1 else ""
        return f"reading {at.done / at.total:.0%}  {at.done:,}/{at.total:,} tokens{rest}"

    def _tokens(self) -> int:
        """Return about how many tokens the thought has: whole lines are counted once."""
        end = self._thought.rfind("\n") + 1
        if end > self._counted_to:
            self._counted += self._count(self._thought[self._counted_to : end])
            self._counted_to = end
        return self._counted + self._count(self._thought[self._counted_to :])


def thought_lines(thought: str, width: int, *, wrap: bool) -> list[Line]:
    """Lay a thought out, dim."""
    return render_plain(thought.strip("\n"), width, wrap=wrap, style="dim")
