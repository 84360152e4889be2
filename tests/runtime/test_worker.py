"""Tests of the engine's thread: many consumers, cancelling, errors, interrupts and the end."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import fakes
import pytest
from mull.errors import EngineStopped, InvalidRequest
from mull.runtime.engine import Engine
from mull.runtime.request import Output, Request
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.scheduler import Step
from mull.runtime.worker import Stream, Worker

ENDLESS = SamplingParams(temperature=0, max_tokens=None)


class Gate(fakes.FakeRunner):
    """A runner that waits for permission before each step, or fails when told to."""

    def __init__(self) -> None:
        super().__init__(fakes.hashed(23), 4096, 4)
        self.error: Exception | None = None
        self.permits = threading.Semaphore(0)

    def run(self, step: Step):
        assert self.permits.acquire(timeout=60)
        if self.error:
            error, self.error = self.error, None
            raise error
        return super().run(step)


def make(runner: fakes.FakeRunner | None = None) -> Engine:
    engine = fakes.engine(fakes.hashed(23), num_blocks=4096)
    if runner is not None:
        engine.runner = runner
    return engine


def idle(worker: Worker, engine: Engine) -> bool:
    """Tell, from the engine's thread, whether all blocks are back and nothing is under way."""

    def look() -> bool:
        fakes.check(engine)
        return not engine.has_work and engine.pool.num_available == engine.pool.num_blocks

    return worker.run_exclusive(look)


def test_a_stream_gives_what_the_engine_gives():
    alone = make()
    request = Request((1, 2, 3), SamplingParams(seed=4, max_tokens=20), id="r")
    alone.submit(request)
    with Worker(make()) as worker:
        stream = worker.submit(request)
        assert stream.seed == 4
        assert list(stream) == fakes.drain(alone)["r"]
        assert list(stream) == []


def test_many_consumers_at_once():
    def wanted(index: int) -> Request:
        return Request((index, 2, 3), SamplingParams(seed=index, max_tokens=15), id=f"r{index}")

    expected = {}
    for index in range(16):
        engine = make()
        engine.submit(wanted(index))
        expected[f"r{index}"] = fakes.tokens_of(fakes.drain(engine)[f"r{index}"])
    found: dict[str, tuple[int, ...]] = {}
    engine = make()
    with Worker(engine) as worker:

        def consume(index: int) -> None:
            found[f"r{index}"] = fakes.tokens_of(list(worker.submit(wanted(index))))

        threads = [threading.Thread(target=consume, args=(index,)) for index in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert idle(worker, engine)
    assert found == expected


def test_an_aborted_stream_ends_with_cancelled():
    engine = make()
    with Worker(engine) as worker:
        stream = worker.submit(Request((1,), ENDLESS))
        next(stream)
        stream.abort()
        assert list(stream)[-1].finish == "cancelled"
        assert idle(worker, engine)


def test_an_abort_before_the_first_step():
    engine = make(Gate())
    with Worker(engine) as worker:
        blocker = worker.submit(Request((1,), SamplingParams(max_tokens=1)))
        stream = worker.submit(Request((1,), ENDLESS))
        stream.abort()
        engine.runner.permits.release(1000)
        assert list(stream)[-1].finish == "cancelled"
        assert list(blocker)[-1].finish == "length"


def leave_by_close(worker: Worker) -> None:
    stream = worker.submit(Request((1,), ENDLESS))
    next(stream)
    stream.close()
    assert list(stream) == []


def leave_by_interrupt(worker: Worker) -> None:
    def chat() -> None:
        with worker.submit(Request((1,), ENDLESS)) as stream:
            for _ in stream:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chat()


def leave_by_dropping(worker: Worker) -> None:
    stream = worker.submit(Request((1,), ENDLESS))
    next(stream)
    del stream
    gc.collect()


def test_a_real_interrupt_while_waiting_ends_the_request_and_the_worker_serves_on():
    class Interrupting(fakes.FakeRunner):
        def run(self, step: Step):
            if len(self.steps) == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return super().run(step)

    engine = make(Interrupting(fakes.hashed(23), 4096, 4))

    def chat() -> None:
        with worker.submit(Request((1,), ENDLESS)) as stream:
            for _ in stream:
                pass

    with Worker(engine) as worker:
        with pytest.raises(KeyboardInterrupt):
            chat()
        assert idle(worker, engine)
        assert len(fakes.tokens_of(list(worker.submit(Request((2,), SamplingParams(max_tokens=3)))))) == 3


@pytest.mark.parametrize("leave", [leave_by_close, leave_by_interrupt, leave_by_dropping])
def test_whoever_leaves_ends_the_request(leave: Callable[[Worker], None]):
    engine = make()
    with Worker(engine) as worker:
        leave(worker)
        assert idle(worker, engine)


def test_closing_a_finished_stream_leaves_a_later_request_of_that_id_alone():
    with Worker(make()) as worker:
        first = worker.submit(Request((1,), SamplingParams(max_tokens=2), id="r"))
        # The first ends without its outputs being read; the other tells when.
        list(worker.submit(Request((2,), SamplingParams(max_tokens=5))))
        second = worker.submit(Request((1,), SamplingParams(max_tokens=300), id="r"))
        first.close()
        assert list(second)[-1].finish == "length"


def test_an_id_that_is_under_way_is_refused_and_the_first_goes_on():
    with Worker(make()) as worker:
        first = worker.submit(Request((1,), SamplingParams(max_tokens=300), id="r"))
        second = worker.submit(Request((1,), id="r"))
        with pytest.raises(InvalidRequest, match="under way"):
            next(second)
        second.close()
        assert list(first)[-1].finish == "length"


def test_an_invalid_request_is_refused_at_once():
    with Worker(make()) as worker, pytest.raises(InvalidRequest):
        worker.submit(Request((1,), SamplingParams(top_p=3)))


def test_an_error_of_the_engine_reaches_every_consumer_and_the_next_request_works():
    gate = Gate()
    engine = make(gate)
    with Worker(engine) as worker:
        streams = [worker.submit(Request((i,), ENDLESS)) for i in range(3)]
        # All three are under way once the third has an output.
        gate.permits.release(3)
        for stream in streams:
            next(stream)
        gate.error = RuntimeError("the device is gone")
        gate.permits.release(1000)
        for stream in streams:
            with pytest.raises(RuntimeError, match="gone"):
                list(stream)
            assert list(stream) == []
        assert idle(worker, engine)
        assert len(fakes.tokens_of(list(worker.submit(Request((1,), SamplingParams(max_tokens=3)))))) == 3


def test_exclusive_work_runs_on_the_engines_thread_between_steps():
    with Worker(make()) as worker:
        stream = worker.submit(Request((1,), ENDLESS))
        next(stream)
        assert worker.run_exclusive(lambda: threading.current_thread().name) == "mull-engine"
        next(stream)


def test_an_error_in_exclusive_work_is_its_callers_alone():
    with Worker(make()) as worker:
        stream = worker.submit(Request((1,), SamplingParams(max_tokens=50)))
        with pytest.raises(ZeroDivisionError):
            worker.run_exclusive(lambda: 1 // 0)
        assert list(stream)[-1].finish == "length"


def test_closing_ends_every_wait():
    gate = Gate()
    worker = Worker(make(gate))
    started, caught = threading.Event(), []

    def consume(stream: Stream) -> None:
        started.set()
        try:
            list(stream)
        except EngineStopped as error:
            caught.append(error)

    thread = threading.Thread(target=consume, args=(worker.submit(Request((1,), ENDLESS)),))
    thread.start()
    assert started.wait(60)
    gate.permits.release(10**6)
    worker.close()
    thread.join(60)
    assert len(caught) == 1
    worker.close()


def test_after_the_end_everything_is_refused():
    worker = Worker(make())
    worker.close()
    with pytest.raises(EngineStopped):
        next(worker.submit(Request((1,))))
    with pytest.raises(EngineStopped):
        worker.run_exclusive(lambda: None)


def test_a_forked_process_is_refused_at_once():
    with Worker(make()) as worker:
        list(worker.submit(Request((1,), SamplingParams(max_tokens=4))))
        child = os.fork()
        if not child:
            signal.alarm(30)  # ends a child that waits for a thread which it does not have
            try:
                next(worker.submit(Request((1,))))
            except EngineStopped:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_program_that_forgets_to_close_ends_in_order():
    code = (
        "import fakes, sys\n"
        "from mull.runtime.request import Request\n"
        "from mull.runtime.sampling.params import SamplingParams\n"
        "from mull.runtime.worker import Worker\n"
        "worker = Worker(fakes.engine(fakes.hashed(23), num_blocks=4096))\n"
        "stream = worker.submit(Request((1,), SamplingParams(temperature=0, max_tokens=None)))\n"
        "next(stream)\n"
        "sys.exit(3)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (3, "")


def test_an_idle_worker_does_not_step():
    engine = make()
    steps: list[list[Output]] = []
    original = engine.step

    def counted() -> list[Output]:
        steps.append(original())
        return steps[-1]

    engine.step = counted  # type: ignore[method-assign]
    with Worker(engine) as worker:
        list(worker.submit(Request((1,), SamplingParams(max_tokens=4))))
        worker.run_exclusive(lambda: None)
        assert len(steps) == 4
