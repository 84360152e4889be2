"""An LLM of the command line's tests: it answers from a script and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace, TracebackType

from mull.chat.options import Sourced, our_defaults
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Event, Progress, Reasoning, Text, Usage

USAGE = Usage(
    prompt_tokens=26,
    cached_tokens=0,
    thinking_tokens=3,
    completion_tokens=298,
    load_ms=2150.0,
    prompt_ms=383.8,
    eval_ms=4790.0,
)


class FakeLLM:
    """Each reply is a list of events or of errors to raise; a Done is added."""

    def __init__(self, *replies: list[Event | BaseException]) -> None:
        self.name = "fake"
        self.backend = "cpu float32 (fake)"
        self.context_length = 2048
        self.notes: list[str] = []
        self.reason = "stop"
        self.contents = SimpleNamespace(parameters={"num_ctx": 2048})
        self.defaults = {**our_defaults(), "temperature": Sourced(0.6, "gguf")}
        self.requests: list[ChatRequest] = []
        self.num_stopped = 0
        self.is_closed = False
        self.aborted: list[str] = []
        self.ended_thinking: list[str] = []
        self.plan = SimpleNamespace(
            hold=True, context_length=2048, weight_bytes=4_000_000, cache_bytes=1_000_000
        )
        self._replies = list(replies) or [[Progress(26, 26), Reasoning("so"), Text("an"), Text("swer")]]

    def chat(self, request: ChatRequest) -> Iterator[Event]:
        self.requests.append(request)
        script = self._replies[min(len(self.requests), len(self._replies)) - 1]
        finished = False
        try:
            for step in script:
                if isinstance(step, BaseException):
                    raise step
                yield step
            yield Done(USAGE, self.reason, (5, 6, 7), 42)
            finished = True
        finally:
            self.num_stopped += not finished

    def measure(self, request: ChatRequest) -> tuple[int, int | None]:
        return USAGE.prompt_tokens, None

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    def end_thinking(self, request_id: str) -> None:
        self.ended_thinking.append(request_id)

    def close(self) -> None:
        self.is_closed = True

    def __enter__(self) -> FakeLLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_closed = True
