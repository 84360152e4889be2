"""The engine's thread: a loop that takes jobs from other threads, steps the engine, hands out outputs.

Jobs and outputs go through queues that interrupts and finalizers cannot break; the engine itself is touched
by this thread alone.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TypeVar

from ..errors import EngineStopped
from .engine import Engine
from .request import Output, Request
from .sequence import Sequence

T = TypeVar("T")
_Inbox = SimpleQueue[Output | Exception]


@dataclass(frozen=True, slots=True)
class _Job:
    """Something to do on the engine's thread, and whom to tell if it fails."""

    run: Callable[[], object]
    fail: Callable[[Exception], None]


class Stream:
    """The outputs of one request, for one consumer; ends after the output that says why it finished.

    A stream that is closed or dropped before its end aborts its request.
    """

    def __init__(self, sequence: Sequence, inbox: _Inbox, abort: Callable[[], None]) -> None:
        self.request_id = sequence.id
        self.seed = sequence.seed
        self._inbox = inbox
        self._abort = abort
        self._is_done = False

    def __iter__(self) -> Iterator[Output]:
        return self

    def __next__(self) -> Output:
        """Wait for the next output; raises what the engine raised."""
        if self._is_done:
            raise StopIteration
        item = self._inbox.get()
        if isinstance(item, Exception):
            self._is_done = True
            raise item
        self._is_done = item.finish is not None
        return item

    def abort(self) -> None:
        """Ask for the end; outputs already made still come, then one that says "cancelled"."""
        if not self._is_done:
            self._abort()

    def close(self) -> None:
        """Abort, and want no more outputs."""
        self.abort()
        self._is_done = True

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Worker:
    """Runs an engine on a thread of its own until closed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._inboxes: dict[str, _Inbox] = {}
        self._is_closing = False
        self._has_stopped = False
        # As of the last job or step; other threads read it, and never see half of an update.
        self.stats = engine.scheduler.stats()
        # A daemon, closed at exit: a program that forgets to close still ends, and not with this thread
        # inside torch while the interpreter is taken down, which aborts the process.
        self._thread = threading.Thread(target=self._run, name="mull-engine", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def submit(self, request: Request) -> Stream:
        """Queue a request. Raises InvalidRequest, or EngineStopped after the end."""
        sequence = self._engine.prepare(request)
        inbox: _Inbox = SimpleQueue()

        def start() -> None:
            self._engine.scheduler.add(sequence)
            self._inboxes[sequence.id] = inbox

        def abort() -> None:
            # Another request may have taken the id since, or may have had it before.
            if self._inboxes.get(sequence.id) is inbox:
                self._abort(sequence.id)

        stream = Stream(sequence, inbox, lambda: self._post(_Job(abort, self._fail_all)))
        self._post(_Job(start, inbox.put))
        return stream

    def end_thinking(self, request_id: str) -> bool:
        """Have a request answer now, if it is thinking; False if it is not under way."""
        if request_id not in self._inboxes:
            return False
        self._post(_Job(lambda: self._engine.scheduler.end_thinking(request_id), self._fail_all))
        return True

    def abort(self, request_id: str) -> None:
        """End a request, if it is under way; its consumer gets an output that says "cancelled"."""
        self._post(_Job(lambda: self._abort(request_id), self._fail_all))

    def check(self) -> None:
        """Assert, between two steps, that every block of the cache is held by whom the books say."""
        scheduler = self._engine.scheduler
        self.run_exclusive(lambda: scheduler.pool.check([*scheduler.running, *scheduler.waiting]))

    def run_exclusive(self, function: Callable[[], T]) -> T:
        """Run a function on the engine's thread between two steps; return its result or raise its error."""
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(function())

        def fail(error: Exception) -> None:
            if future.running() or future.set_running_or_notify_cancel():
                future.set_exception(error)

        self._post(_Job(run, fail))
        try:
            return future.result()
        finally:
            # If the wait was interrupted before its turn came, the function need not run.
            future.cancel()

    def stop(self) -> None:
        """Ask the thread to end after the present step; whoever still waits gets EngineStopped."""
        atexit.unregister(self.close)
        # A program that ends right now must still wait, and must not hold the engine to do so.
        atexit.register(self._thread.join)
        self._is_closing = True
        self._jobs.put(None)

    def close(self) -> None:
        """Stop, and wait for the thread."""
        self.stop()
        self._thread.join()
        atexit.unregister(self._thread.join)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, job: _Job) -> None:
        self._jobs.put(job)
        # The thread refuses what is queued when it ends; what comes after that is refused here. In a process
        # that was forked from the thread's own it does not run either.
        if self._has_stopped or not self._thread.is_alive():
            self._refuse_jobs()

    def _run(self) -> None:
        step = _Job(lambda: self._deliver(self._engine.step()), self._fail_all)
        try:
            while not self._is_closing:
                self._do(self._next_job() or step)
        finally:
            self._has_stopped = True
            self._refuse_jobs()
            self._fail_all(EngineStopped("the engine was stopped"))

    def _do(self, job: _Job) -> None:
        """Run one job. In a frame of its own: an idle thread must not keep what its last job held alive."""
        try:
            job.run()
        except Exception as error:
            job.fail(error)
        self.stats = self._engine.scheduler.stats()

    def _next_job(self) -> _Job | None:
        """Return the next job, or None if it is the engine's turn; sleep while there is neither."""
        try:
            return self._jobs.get(block=not self._engine.has_work)
        except Empty:
            return None

    def _abort(self, request_id: str) -> None:
        output = self._engine.abort(request_id)
        if output is not None:
            self._deliver([output])

    def _deliver(self, outputs: list[Output]) -> None:
        for output in outputs:
            self._inboxes[output.request_id].put(output)
            if output.finish:
                del self._inboxes[output.request_id]

    def _fail_all(self, error: Exception) -> None:
        """Hand an error to every consumer and start afresh."""
        for inbox in self._inboxes.values():
            inbox.put(error)
        self._inboxes.clear()
        self._engine.reset()

    def _refuse_jobs(self) -> None:
        while True:
            try:
                job = self._jobs.get(block=False)
            except Empty:
                return
            if job is not None:
                job.fail(EngineStopped("the engine was stopped"))
