"""A reply from the engine, as events: text told apart, and at the end what it has cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ..errors import EngineStopped, InvalidRequest
from ..runtime.grammar.constraint import Conformity, Constraint
from ..runtime.prompt_cache import PromptCache
from ..runtime.request import Output
from ..runtime.sampling.logprobs import TokenLogprob
from ..runtime.thoughts import ThoughtCounter
from ..runtime.worker import Stream
from .stream import (
    Done,
    Event,
    Progress,
    Reasoning,
    ReplyParser,
    Text,
    Thinking,
    ToolCallEvent,
    Truncated,
    Usage,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a request before its reply.

    load_ms: time that was spent on loading for it; enforced: its thoughts are kept within their budget; notes: what the
    user should know of its limits; format: what the answer must look like; truncated: what was left out of the
    conversation; prompt_ids: what the model continues; token_bytes: what a token stands for.
    """

    prompt_tokens: int
    token_bytes: Callable[[int], bytes]
    load_ms: float = 0.0
    enforced: bool = True
    notes: tuple[str, ...] = field(default=())
    format: Constraint | None = None
    truncated: Truncated | None = None
    prompt_ids: tuple[int, ...] = ()


class _Reports:
    """Deals the reports on drawn tokens out to the pieces of text that they have made."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._waiting: list[tuple[TokenLogprob, bytes]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, reports: Iterable[TokenLogprob]) -> None:
        """Take the reports on the next tokens."""
        self._waiting += ((report, self._token_bytes(report.token)) for report in reports)

    def of(self, text: str) -> tuple[TokenLogprob, ...]:
        """Return those on the tokens that a piece is made of; tags before it are passed over."""
        whole, wanted = b"".join(piece for _, piece in self._waiting), text.encode("utf-8", "replace")
        begin = whole.find(wanted)
        # A tag or a stop string may have been taken out of its middle.
        begin, end = (0, len(whole)) if begin < 0 else (begin, begin + len(wanted))
        found, left, at = [], [], 0
        for report, piece in self._waiting:
            if at >= end:
                left.append((report, piece))
            elif at + len(piece) > begin:
                found.append(report)
            at += len(piece)
        self._waiting = left
        return tuple(found)


def events(stream: Stream, parser: ReplyParser, thoughts: ThoughtCounter, asked: Asked) -> Iterator[Event]:
    """Yield a reply's events, ending with Done; closing the iterator stops the answer."""
    submitted = first_token = time.perf_counter()
    ids: list[int] = []
    answer: list[str] = []
    logprobs: list[TokenLogprob] = []
    reports = _Reports(asked.token_bytes)
    called = False
    last: Output | None = None
    with stream:
        for output in stream:
            last = output
            if output.tokens and not ids:
                first_token = time.perf_counter()
            ids += output.tokens
            logprobs += output.logprobs
            reports.add(output.logprobs)
            if not ids:
                yield Progress(output.num_computed, output.num_prompt)
            was_thinking = parser.thinking
            found = parser.feed(output.text)
            called = called or any(isinstance(event, ToolCallEvent) for event in found)
            yield from _kept(found, answer, reports)
            thoughts.feed(output.tokens, thinking=was_thinking and parser.thinking)
        ending = parser.flush()
        called = called or any(isinstance(event, ToolCallEvent) for event in ending)
        yield from _kept(ending, answer, reports)
    ended = time.perf_counter()
    assert last is not None
    assert last.finish is not None
    report = last.thinking
    usage = Usage(
        prompt_tokens=asked.prompt_tokens,
        cached_tokens=last.num_cached,
        thinking_tokens=thoughts.count if report is None else report.tokens,
        completion_tokens=len(ids),
        forwarded_tokens=last.num_forwarded,
        sampled_tokens=last.num_sampled,
        drafted_tokens=last.num_drafted,
        accepted_tokens=last.num_accepted,
        load_ms=asked.load_ms,
        prompt_ms=((first_token if ids else ended) - submitted) * 1000,
        eval_ms=(ended - first_token) * 1000 if ids else 0.0,
    )
    thinking = Thinking(report, asked.enforced, asked.notes)
    # Where tools are called, what is said beside that is no answer yet.
    conformity = None if called else _conformity("".join(answer), asked.format)
    yield Done(
        usage,
        last.finish,
        tuple(ids),
        stream.seed,
        thinking,
        conformity,
        tuple(logprobs),
        truncated=asked.truncated,
        stop=last.stop,
        prompt_ids=asked.prompt_ids,
        tool_errors=tuple(parser.tool_errors),
    )


def saving(reply: Iterator[Event], prompts: PromptCache, prompt_ids: tuple[int, ...]) -> Iterator[Event]:
    """Yield a reply's events; once it is over, or was stopped, keep on disk what the next turn will begin with."""
    said: tuple[int, ...] = ()
    try:
        for event in reply:
            # A thought is not in the next prompt, so neither is the answer at the same place.
            if isinstance(event, Done) and not event.usage.thinking_tokens:
                said = event.token_ids
            yield event
    finally:
        close = getattr(reply, "close", None)
        if close is not None:
            close()
        with suppress(EngineStopped):
            prompts.save((*prompt_ids, *said))


def _kept(found: Iterable[Event], answer: list[str], reports: _Reports) -> Iterator[Event]:
    """Yield events, with the reports on their tokens, and keep the answer's text."""
    for event in found:
        if isinstance(event, Text):
            answer.append(event.text)
        if reports and isinstance(event, Text | Reasoning):
            event = replace(event, logprobs=reports.of(event.text))
        yield event


def _conformity(answer: str, form: Constraint | None) -> Conformity | None:
    """Look at the whole answer once more; None where no format was asked for, or one that is not of text."""
    if form is None:
        return None
    from ..runtime.grammar.check import conformity

    try:
        return conformity(answer, form)
    except InvalidRequest:
        return None
