"""How a transfer is shown: bars on a terminal, plain lines in a pipe, JSON objects, or nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .formats import human_bytes, printable
from .progress import clock_text
from .terminal import Terminal

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from ..registry.events import Event

_EVERY = 10.0  # seconds between plain lines about one file
_WIDEST_NAME, _BAR = 40, 20  # columns


class Transfers:
    """Shows the events of pulls, pushes and checks; a context that leaves the terminal as it was."""

    def __init__(
        self,
        terminal: Terminal,
        *,
        quiet: bool = False,
        as_json: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terminal = terminal
        self._quiet = quiet
        self._json = as_json
        self._clock = clock
        self._told: dict[str, float] = {}
        self._done: set[tuple[str, str | None]] = set()
        self._tasks: dict[str, TaskID] = {}
        self._bars: Progress | None = None

    def __enter__(self) -> Transfers:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bars as they stand."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._tasks.clear()

    def show(self, event: Event) -> None:
        """Show one event."""
        if self._json:
            print(json.dumps(event.to_json(), ensure_ascii=False), flush=True)
        elif event.kind == "progress":
            if not self._quiet:
                self._progress(event)
        elif event.kind == "warning":
            self._say(f"warning: {event.status}")
        elif not self._quiet:
            self._say(event.status)

    def tell(self, text: str) -> None:
        """Write a line for people."""
        if not self._quiet and not self._json:
            self._say(text)

    def _say(self, text: str) -> None:
        self.close()
        self._terminal.note(printable(text))

    def _progress(self, event: Event) -> None:
        name = printable(event.name or event.status)
        checking = event.status.startswith("verifying")
        if self._terminal.err_is_tty:
            self._bar(event, f"checking {name}" if checking else name)
        elif not checking:
            self._line(event, name)

    def _line(self, event: Event, name: str) -> None:
        """Write a line when a file begins to be worth one, at most every ten seconds, and when it is done."""
        done, total, now = event.completed or 0, event.total or 0, self._clock()
        if done >= total:
            # Layers of different models have the same names.
            if (name, event.digest) not in self._done:
                self._done.add((name, event.digest))
                self._terminal.note(f"{name}: {human_bytes(total)}")
            return
        if now - self._told.setdefault(name, now) < _EVERY:
            return
        self._told[name] = now
        tail = f", {human_bytes(int(event.rate))}/s" if event.rate else ""
        tail += f", {clock_text(event.seconds_left)} left" if event.seconds_left else ""
        self._terminal.note(f"{name}: {human_bytes(done)} of {human_bytes(total)}{tail}")

    def _bar(self, event: Event, name: str) -> None:
        if self._bars is None:
            self._bars = _bars(self._terminal)
            self._bars.start()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, start=False, rate="", left="")
        self._bars.update(
            self._tasks[name],
            total=event.total or None,
            completed=event.completed or 0,
            rate=f"{human_bytes(int(event.rate))}/s" if event.rate else "",
            left=clock_text(event.seconds_left) if event.seconds_left is not None else "",
        )


def _bars(terminal: Terminal) -> Progress:
    """Return bars that show as much as the terminal is wide for, also when that changes."""
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, Progress, ProgressColumn, Task
    from rich.text import Text

    console = Console(file=terminal.err, force_terminal=True, no_color=not terminal.color, highlight=False)

    class Words(ProgressColumn):
        def __init__(self, words: Callable[[Task], str]) -> None:
            super().__init__()
            self._words = words

        def render(self, task: Task) -> RenderableType:
            return Text(self._words(task), no_wrap=True, overflow="ellipsis")

    def amounts(task: Task) -> str:
        return f"{human_bytes(int(task.completed))} of {human_bytes(int(task.total or 0))}"

    share = Words(lambda task: f"{task.percentage:3.0f}%")
    more: list[tuple[int, ProgressColumn]] = [
        (44, Words(amounts)),
        (58, Words(lambda task: str(task.fields["rate"]))),
        (68, Words(lambda task: str(task.fields["left"]))),
        (90, BarColumn(_BAR)),
    ]

    class Bars(Progress):
        def get_renderables(self) -> list[RenderableType]:
            width = console.width
            shown = [column for least, column in more if width >= least]
            room = width - 6 - sum((20, 11, 9, _BAR + 1)[: len(shown)]) - 1
            name = Words(lambda task: _short(task.description, max(4, min(_WIDEST_NAME, room))))
            self.columns = (name, share, *shown)
            return [self.make_tasks_table(self.tasks)]

    return Bars(console=console, refresh_per_second=8, transient=False)


def _short(name: str, room: int) -> str:
    """Shorten a name in its middle: quantization and number of a file stand at its end."""
    if len(name) <= room:
        return name
    head = (room - 1) // 3
    return f"{name[:head]}~{name[len(name) - (room - 1 - head) :]}"
