"""One reply: a thread takes what the model says, this one shows and keeps it, and keys act meanwhile."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol, cast

from ...chat.request import ChatRequest
from ...chat.stream import Done, Event, Reasoning, Text
from ..keys import CTRL_T, acting_on
from ..signals import interrupting
from .model import ChatModel

CTRL_O = b"\x0f"
_EVERY = 1 / 15  # seconds between two changes of the screen
_MOST_AFTER = 64  # events that may still come after a reply was told to end, before it is cut off
_END = object()


@dataclass(frozen=True, slots=True)
class Turn:
    """What has come of a reply; done: None if it was stopped before the model could say how it went."""

    text: str
    thinking: str
    done: Done | None
    seconds: float
    stopped: bool = False


class View(Protocol):
    """What shows a reply: takes events, brings the screen up to date, and leaves it in order."""

    @property
    def thinking(self) -> bool:
        """Whether a thought is going on."""
        ...

    def show(self, event: Event) -> None:
        """Take what has come."""
        ...

    def draw(self) -> None:
        """Bring the screen up to date."""
        ...

    def close(self) -> None:
        """Leave nothing that still changes."""
        ...

    def toggle(self) -> None:
        """Open or fold thoughts; from any thread."""
        ...


def take_turn(
    model: ChatModel,
    request: ChatRequest,
    view: View,
    keep: Callable[[Event | None], None],
    typed: bytearray | None = None,
) -> Turn:
    """Show a reply, calling `keep` with each event, and with None as time goes by.

    Ctrl-T, and the first Ctrl-C in a thought, ends the thought; Ctrl-C else ends the reply, and what came stays.
    Another one does not wait for the model's next token. typed: takes the keys that mean nothing here. Raises what
    the model raises.
    """
    taker = _Taker(model, request)
    answered = False  # the thought was told to end
    cut = False  # the reply was told to end again

    def answer_now() -> bool:
        nonlocal answered
        if not view.thinking or answered or request.id is None:
            return False
        answered = True
        model.end_thinking(request.id)
        return True

    def interrupt() -> bool:
        nonlocal cut
        cut = not answer_now() and not taker.stop()
        return True  # none may take away what came

    started = time.perf_counter()
    texts: tuple[list[str], list[str]] = [], []
    done: Done | None = None
    keys = {CTRL_T: answer_now, CTRL_O: view.toggle}
    with interrupting(interrupt), acting_on(keys, rest=typed):
        taker.start()
        due = time.monotonic()
        try:
            while not cut and (event := taker.next(due - time.monotonic())) is not _END:
                if isinstance(event, Text | Reasoning):
                    texts[isinstance(event, Reasoning)].append(event.text)
                elif isinstance(event, Done):
                    done = event
                if event is not None:
                    view.show(cast(Event, event))
                keep(cast("Event | None", event))
                if time.monotonic() >= due:
                    view.draw()
                    due = time.monotonic() + _EVERY
        finally:
            taker.stop()
            view.close()
    return Turn("".join(texts[0]), "".join(texts[1]), done, time.perf_counter() - started, taker.stopped)


class _Taker:
    """The thread that iterates over a reply, since only it may close the iterator."""

    def __init__(self, model: ChatModel, request: ChatRequest) -> None:
        self._model, self._request = model, request
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self.ended = False
        self._thread = threading.Thread(target=self._run, name="mull-reply", daemon=True)

    @property
    def stopped(self) -> bool:
        """Whether the reply was ended before it had come to an end itself."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> bool:
        """End the reply after its present token; False if that was asked before, or it is over."""
        if self._stopping.is_set() or self.ended:
            return False
        self._stopping.set()
        if self._request.id is not None:
            self._model.abort(self._request.id)
        return True

    def next(self, seconds: float) -> object:
        """Return the next event, None if none comes within `seconds`, or _END; raises what the model raised."""
        try:
            item = self._inbox.get(timeout=max(seconds, 0.001))
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            self.ended = True
            raise item
        self.ended = self.ended or item is _END
        return item

    def _run(self) -> None:
        try:
            events = cast("Generator[Event]", self._model.chat(self._request))
            after = 0
            for event in events:
                self._inbox.put(event)
                after += self._stopping.is_set()
                if after > _MOST_AFTER:
                    events.close()
                    break
        except BaseException as error:  # raised again by whoever waits
            self._inbox.put(error)
        self._inbox.put(_END)
