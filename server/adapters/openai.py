"""What OpenAI's endpoints share: errors, usage, models, and how a reply's tokens are reported."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ... import __version__
from ...chat.extensions import extensions
from ...chat.stream import Done, Event, Text, Usage
from ...errors import ContextExceeded, ModelNotFound, MullError, OutOfMemory
from ...registry.store import Entry
from ...runtime.sampling.logprobs import TokenLogprob

TokenBytes = Callable[[int], bytes]

# As OpenAI's own server names them; clients choose their exceptions by the status.
_TYPES = {
    400: "invalid_request_error", 401: "invalid_request_error", 403: "permission_error",
    404: "invalid_request_error", 405: "invalid_request_error", 413: "invalid_request_error",
    415: "invalid_request_error", 429: "rate_limit_error", 501: "not_supported_error", 503: "server_error",
}  # fmt: skip
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded", 501: "not_supported", 503: "server_busy"}
_CODES_BY_KIND: tuple[tuple[type[MullError], str], ...] = (
    (ContextExceeded, "context_length_exceeded"),
    (ModelNotFound, "model_not_found"),
    (OutOfMemory, "insufficient_memory"),
)
_LEAST = -9999.0
"""What OpenAI writes for a token that cannot come: JSON has no minus infinity."""


class NotServed(MullError):
    """An endpoint that is known and not there yet."""

    status = 501


class ResponseNotFound(MullError):
    """No such response is kept."""

    status = 404


@dataclass(frozen=True, slots=True)
class Head:
    """What all messages about one request say, and how its answers are to be shown.

    token_bytes: spells tokens for logprobs; None where none were asked for.
    """

    id: str
    model: str
    fingerprint: str
    shows_thinking: bool = True
    includes_usage: bool = False
    tells_progress: bool = False
    token_bytes: TokenBytes | None = None
    created: int = field(default_factory=lambda: int(time.time()))

    def fields(self, kind: str) -> dict[str, object]:
        """Return the fields that every message begins with."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def error(failure: MullError) -> dict[str, object]:
    """Return the body that tells of an error."""
    code = next((code for kind, code in _CODES_BY_KIND if isinstance(failure, kind)), None)
    text = failure.message if failure.hint is None else f"{failure.message} (hint: {failure.hint})"
    kind = _TYPES.get(failure.status, "invalid_request_error" if failure.status < 500 else "server_error")
    param = getattr(failure, "field", None)
    if param is None and isinstance(failure, ModelNotFound):
        param = "model"
    return {
        "error": {
            "message": text,
            "type": kind,
            "param": param,
            "code": code or _CODES.get(failure.status),
        }
    }


def model_entry(entry: Entry) -> dict[str, object]:
    """Return a model as lists show it, with the fields that Anthropic's clients look for beside OpenAI's."""
    name = entry.name.short()
    return {
        "id": name,
        "object": "model",
        "created": int(entry.modified.timestamp()),
        "owned_by": entry.name.namespace,
        "type": "model",
        "display_name": name,
        "created_at": entry.modified.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def model_list(entries: Iterable[Entry]) -> dict[str, object]:
    """Return all models."""
    models = [model_entry(entry) for entry in entries]
    ends = {"first_id": models[0]["id"], "last_id": models[-1]["id"]} if models else {}
    return {"object": "list", "data": models, "has_more": False, **ends}


def fingerprint(name: str, backend: str) -> str:
    """Return what is the same for replies that the same seed repeats: our version, the model and what computes."""
    return "fp_" + hashlib.sha256(f"{__version__} {name} {backend}".encode()).hexdigest()[:10]


def usage(dones: Sequence[tuple[int, Done]]) -> dict[str, object]:
    """Return what a request has cost: `dones` are its choices' ends, each with the number of its prompt.

    A prompt counts once, however many choices were made of it.
    """
    prompts: dict[int, Usage] = {}
    for prompt, done in dones:
        prompts.setdefault(prompt, done.usage)
    sent = sum(one.prompt_tokens for one in prompts.values())
    made = sum(done.usage.completion_tokens for _, done in dones)
    return {
        "prompt_tokens": sent,
        "completion_tokens": made,
        "total_tokens": sent + made,
        "prompt_tokens_details": {"cached_tokens": sum(one.cached_tokens for one in prompts.values())},
        "completion_tokens_details": {
            "reasoning_tokens": sum(done.usage.thinking_tokens for _, done in dones)
        },
    }


def ending(head: Head, kind: str, dones: Sequence[tuple[int, Done]]) -> Iterator[dict[str, object] | str]:
    """Yield what follows all choices: what they cost, if that was asked for, and the end of the stream."""
    if head.includes_usage:
        yield {**head.fields(kind), "choices": [], "usage": usage(dones)}
    yield "[DONE]"


def beside(done: Done) -> dict[str, object]:
    """Return what we add to a choice: the seed that repeats it, whether it has its format, how it thought.

    tool_errors: why what looked like a call of a tool is among the text.
    """
    found: dict[str, object] = {"seed": done.seed}
    if done.conformity is not None:
        found["conformity"] = done.conformity
    if done.tool_errors:
        found["tool_errors"] = list(done.tool_errors)
    return {**found, **extensions(done)}


def end_of(events: Iterable[Event]) -> Done:
    """Return the end of a whole reply."""
    done = next((event for event in events if isinstance(event, Done)), None)
    assert done is not None, "a reply without an end"
    return done


def timings(usage: Usage) -> dict[str, object]:
    """Return llama.cpp's timings of one reply."""
    fresh = usage.prompt_tokens - usage.cached_tokens
    drafts = {"draft_n": usage.drafted_tokens, "draft_n_accepted": usage.accepted_tokens}
    return {
        "cache_n": usage.cached_tokens,
        "prompt_n": fresh,
        "prompt_ms": round(usage.prompt_ms, 3),
        "prompt_per_second": _rate(fresh, usage.prompt_ms),
        "predicted_n": usage.completion_tokens,
        "predicted_ms": round(usage.eval_ms, 3),
        "predicted_per_second": _rate(usage.completion_tokens, usage.eval_ms),
        **(drafts if usage.drafted_tokens else {}),
    }


def finish_reason(done: Done, *, calls: bool) -> str:
    """Return why a reply ended in OpenAI's words: what was cut off, by a limit or for a loop, is `length`."""
    if done.reason in ("length", "repeat"):
        return "length"
    return "tool_calls" if calls else "stop"


def answer_logprobs(events: Iterable[Event]) -> list[TokenLogprob]:
    """Return the reports on the tokens that the answer is made of."""
    return [report for event in events if isinstance(event, Text) for report in event.logprobs]


def chat_logprob(one: TokenLogprob, token_bytes: TokenBytes) -> dict[str, object]:
    """Return one token's report as chat completions and responses write it."""
    top = [_spelled(token, logprob, token_bytes) for token, logprob in one.top]
    return {**_spelled(one.token, one.logprob, token_bytes), "top_logprobs": top}


def finite(logprob: float) -> float:
    """Return a logarithm that JSON can hold."""
    return logprob if math.isfinite(logprob) else _LEAST


def _spelled(token: int, logprob: float, token_bytes: TokenBytes) -> dict[str, object]:
    raw = token_bytes(token)
    return {"token": raw.decode("utf-8", "replace"), "logprob": finite(logprob), "bytes": list(raw)}


def _rate(tokens: int, milliseconds: float) -> float:
    return round(tokens * 1000 / milliseconds, 3) if milliseconds > 0 else 0.0
