"""Ollama's replies: our events as its objects, one by one or joined into one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime

from ...chat.extensions import extensions
from ...chat.stream import Done, Event, Reasoning, Text, ToolCallEvent
from ...errors import ModelNotFound, MullError
from ...runtime.sampling.logprobs import TokenLogprob

Json = dict[str, object]
Spell = Callable[[int], bytes]
"""Returns the bytes that a token stands for."""

_IMPOSSIBLE = -9999.0  # JSON has no infinity


def error(failure: MullError) -> Json:
    """Return the body that tells of an error."""
    body: Json = {"error": failure.message}
    # Other hints speak of the command line.
    if isinstance(failure, ModelNotFound) and failure.hint is not None:
        body["hint"] = failure.hint
    return body


def timestamp(moment_ns: int | None = None) -> str:
    """Write a moment, by default now, as RFC 3339 with nanoseconds."""
    seconds, rest = divmod(time.time_ns() if moment_ns is None else moment_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


class Chunks:
    """One reply as objects; what it is for (`chat` or `generate`) decides their form.

    started: when the request came (time.perf_counter()); spell: what a token stands for, for logprobs.
    """

    def __init__(
        self,
        model: str,
        *,
        chat: bool,
        started: float | None = None,
        spell: Spell | None = None,
        context: bool = False,
    ) -> None:
        """Prepare for one reply; context: the end tells the tokens of prompt and answer."""
        self.model = model
        self.spell = spell or _unknown
        self._is_chat = chat
        self._has_context = context
        self._started = time.perf_counter() if started is None else started

    def feed(self, event: Event) -> Iterator[Json]:
        """Yield what an event becomes; most become one object, progress becomes none."""
        if isinstance(event, Text):
            yield {**self._piece(event.text), **self._logprobs(event.logprobs)}
        elif isinstance(event, Reasoning):
            yield {**self._piece("", thinking=event.text), **self._logprobs(event.logprobs)}
        elif isinstance(event, ToolCallEvent):
            yield self._piece("", tool_calls=[_call(event)])
        elif isinstance(event, Done):
            yield self._last(event)

    def fail(self, failure: MullError) -> Iterator[Json]:
        """Yield what tells of an error after the first byte."""
        yield error(failure)

    def loaded(self, reason: str) -> Json:
        """Return what answers a request without a prompt: the model is loaded ("load") or not any more ("unload")."""
        return {**self._piece(""), "done": True, "done_reason": reason}

    def whole(self, events: Iterable[Event]) -> Json:
        """Join a reply into one object."""
        last: Json = {}
        text, thinking, calls = "", "", []
        for event in events:
            if isinstance(event, Text):
                text += event.text
            elif isinstance(event, Reasoning):
                thinking += event.text
            elif isinstance(event, ToolCallEvent):
                calls.append(_call(event))
            elif isinstance(event, Done):
                last = {**self._last(event), **self._logprobs(event.logprobs)}
        extra: Json = {"thinking": thinking} if thinking else {}
        if calls:
            extra["tool_calls"] = calls
        return {**last, **self._piece(text, **extra), "created_at": last["created_at"], "done": True}

    def _piece(self, text: str, **extra: object) -> Json:
        head: Json = {"model": self.model, "created_at": timestamp()}
        if self._is_chat:
            return {**head, "message": {"role": "assistant", "content": text, **extra}, "done": False}
        return {**head, "response": text, **extra, "done": False}

    def _last(self, done: Done) -> Json:
        """Return the end of a reply, with what it has cost."""
        usage = done.usage
        last: Json = {**self._piece(""), "done": True, "done_reason": done.reason}
        if self._has_context:
            last["context"] = [*done.prompt_ids, *done.token_ids]
        last |= {
            "total_duration": int((time.perf_counter() - self._started) * 1e9),
            "load_duration": int(usage.load_ms * 1e6),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": int(usage.prompt_ms * 1e6),
            "eval_count": usage.completion_tokens,
            "eval_duration": int(usage.eval_ms * 1e6),
        }
        if usage.cached_tokens:
            last["prompt_cached_count"] = usage.cached_tokens
        if done.conformity is not None:
            last["format_conformity"] = done.conformity
        return last | _thinking(done)

    def _logprobs(self, drawn: Iterable[TokenLogprob]) -> Json:
        found = [self._logprob(one) for one in drawn]
        return {"logprobs": found} if found else {}

    def _logprob(self, drawn: TokenLogprob) -> Json:
        top = [self._token(*likely) for likely in drawn.top]
        return {**self._token(drawn.token, drawn.logprob), **({"top_logprobs": top} if top else {})}

    def _token(self, token: int, logprob: float) -> Json:
        spelled = self.spell(token)
        text = spelled.decode("utf-8", "replace")
        return {"token": text, "logprob": max(logprob, _IMPOSSIBLE), "bytes": list(spelled)}


def _thinking(done: Done) -> Json:
    """Return how the thoughts were limited, in short and in full; and what was left out of the conversation."""
    found = extensions(done)
    report = found.pop("thinking", None)
    if not isinstance(report, Mapping):
        return found
    found["thinking_report"] = report
    limits = done.thinking.report
    if limits is not None:
        found |= {
            "thinking_count": limits.tokens,
            "thinking_budget": limits.budget,
            "thinking_reason": limits.reason,
            "thinking_duration": int(limits.duration_ms * 1e6),
        }
    return found


def _call(event: ToolCallEvent) -> Json:
    call = event.call
    function = {"index": event.index, "name": call.name, "arguments": dict(call.arguments)}
    return {**({"id": call.id} if call.id else {}), "function": function}


def _unknown(token: int) -> bytes:
    return b""
