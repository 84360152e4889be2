"""What a reply has cost: Ollama's block of statistics, each option with its source, and the JSON object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..chat.extensions import thinking_json
from ..chat.options import SELDOM
from ..chat.stream import Done

if TYPE_CHECKING:
    from ..llm import LLM

_COLUMN = 22
_IMPOSSIBLE = -9999.0
_NANOSECONDS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "µs": 1_000}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply; `seconds` is all the time that it took its user, loading included."""

    text: str
    thinking: str
    done: Done
    seconds: float

    @property
    def prompt_rate(self) -> float:
        """Tokens of the prompt computed per second; those found in the cache do not count."""
        usage = self.done.usage
        return _rate(usage.prompt_tokens - usage.cached_tokens, usage.prompt_ms)

    @property
    def eval_rate(self) -> float:
        """Tokens generated per second, as Ollama counts; none for one token, which comes with the prompt."""
        count = self.done.usage.completion_tokens
        return _rate(count, self.done.usage.eval_ms) if count > 1 else 0.0


def statistics(reply: Reply) -> list[str]:
    """Return Ollama's lines; each only where there is something to tell."""
    usage = reply.done.usage
    lines = (
        ("total duration", reply.seconds, go_duration(reply.seconds)),
        ("load duration", usage.load_ms, go_duration(usage.load_ms / 1000)),
        ("prompt eval count", usage.prompt_tokens, f"{usage.prompt_tokens} token(s)"),
        ("prompt eval duration", usage.prompt_ms, go_duration(usage.prompt_ms / 1000)),
        ("prompt eval rate", reply.prompt_rate, f"{reply.prompt_rate:.2f} tokens/s"),
        ("eval count", usage.completion_tokens, f"{usage.completion_tokens} token(s)"),
        ("eval duration", usage.eval_ms, go_duration(usage.eval_ms / 1000)),
        ("eval rate", reply.eval_rate, f"{reply.eval_rate:.2f} tokens/s"),
        ("drafted", usage.drafted_tokens, f"{usage.drafted_tokens} token(s)"),
        ("accepted", usage.drafted_tokens, _accepted(usage.accepted_tokens, usage.drafted_tokens)),
    )
    return [f"{label + ':':<{_COLUMN}}{text}" for label, value, text in lines if value > 0]


def sources(llm: LLM, given: Mapping[str, object], num_ctx: int | None, seed: int) -> list[str]:
    """Return a line for each option: its value, and who set it."""
    lines = [f"num_ctx {llm.context_length} ({_context_source(llm, num_ctx)})", f"backend {llm.backend}"]
    for name, sourced in llm.defaults.items():
        value, source = (given[name], "command line") if name in given else (sourced.value, sourced.source)
        if name == "seed" and (value is None or (isinstance(value, int) and value < 0)):
            value, source = seed, "random"
        elif value is None or value is False or value in ((), {}, []):
            continue  # no limit, no stop text, no bias
        elif source == "mull" and name in SELDOM:
            continue  # off, or part of what is off
        lines.append(f"{name} {_write(value)} ({source})")
    return lines


def thinking_line(reply: Reply) -> str:
    """Return how the thinking budget was used, in one line; nothing for a model that has none."""
    report, usage = reply.done.thinking.report, reply.done.usage
    if report is None:
        return (
            "" if reply.done.thinking.enforced else "thinking: its limits cannot be enforced for this model"
        )
    answer = f"answer {usage.completion_tokens - report.tokens} tok"
    if report.reason is None:
        return f"no thinking · {answer}"
    parts = [f"thinking {report.tokens}/{report.budget} ({report.utilisation:.0%}) {report.reason}"]
    if report.rounds:
        parts.append(f"{report.rounds} wait{'s' if report.rounds > 1 else ''}")
    rate = f"{reply.eval_rate:.0f} tok/s" if reply.eval_rate else ""
    return " · ".join(filter(None, [*parts, answer, rate]))


def _logprobs_json(reply: Reply, text_of: Callable[[int], str]) -> dict[str, object]:
    """Return what the model thought of each token that was drawn, if that was asked for."""

    def entry(token: int, logprob: float) -> dict[str, object]:
        # JSON has no infinity; this is what OpenAI writes for what cannot be.
        return {"token": text_of(token), "id": token, "logprob": max(round(logprob, 6), _IMPOSSIBLE)}

    entries = [
        {**entry(drawn.token, drawn.logprob), "top": [entry(*likely) for likely in drawn.top]}
        for drawn in reply.done.logprobs
    ]
    return {"logprobs": entries} if entries else {}


def to_json(model: str, reply: Reply, text_of: Callable[[int], str] = str) -> dict[str, object]:
    """Return a reply with everything that is known of it; text_of: what a token stands for."""
    done, usage = reply.done, reply.done.usage
    return {
        "model": model,
        "text": reply.text,
        "thinking": reply.thinking,
        "token_ids": list(done.token_ids),
        "finish_reason": done.reason,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "thinking_tokens": usage.thinking_tokens,
        "completion_tokens": usage.completion_tokens,
        "sampled_tokens": usage.sampled_tokens,
        "forwarded_tokens": usage.forwarded_tokens,
        "drafted": usage.drafted_tokens,
        "accepted": usage.accepted_tokens,
        "thinking_report": thinking_json(done.thinking),
        "format": done.conformity,
        "seed": done.seed,
        "load_ms": round(usage.load_ms, 3),
        "prompt_ms": round(usage.prompt_ms, 3),
        "eval_ms": round(usage.eval_ms, 3),
        "prompt_rate": round(reply.prompt_rate, 3),
        "eval_rate": round(reply.eval_rate, 3),
        **_logprobs_json(reply, text_of),
    }


def go_duration(seconds: float) -> str:
    """Write a span of time as Go does: `1h2m3.5s`, `2.15s`, `383.8ms`, `15µs`, `0s`."""
    left = round(seconds * 1e9)
    if left == 0:
        return "0s"
    for unit in ("ms", "µs"):
        above = _NANOSECONDS["s" if unit == "ms" else "ms"]
        if _NANOSECONDS[unit] <= left < above:
            return _decimal(left, unit)
    if left < _NANOSECONDS["µs"]:
        return f"{left}ns"
    text = ""
    for unit in ("h", "m"):
        count, left = divmod(left, _NANOSECONDS[unit])
        text += f"{count}{unit}" if count or text else ""
    return text + _decimal(left, "s")


def _decimal(nanoseconds: int, unit: str) -> str:
    whole, part = divmod(nanoseconds, _NANOSECONDS[unit])
    digits = f"{part:0{len(str(_NANOSECONDS[unit])) - 1}}".rstrip("0")
    return f"{whole}.{digits}{unit}" if digits else f"{whole}{unit}"


def _context_source(llm: LLM, num_ctx: int | None) -> str:
    if num_ctx is not None:
        return "command line"
    in_modelfile = llm.contents is not None and "num_ctx" in llm.contents.parameters
    return "modelfile" if in_modelfile else "model"


def _accepted(accepted: int, drafted: int) -> str:
    share = f" ({accepted / drafted:.0%})" if drafted else ""
    return f"{accepted} token(s){share}"


def _rate(count: int, ms: float) -> float:
    return 1000 * count / ms if ms > 0 else 0.0


def _write(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(repr(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
