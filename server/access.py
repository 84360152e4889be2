"""What every request leaves behind: a line in the log and its counts; and what each reply has cost."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..chat.stream import Done
from .metrics import Metrics
from .replies import Reply

STARTED = "mull.started"
_REPLIES = "mull.replies"
_LEFT = 499
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_QUIET = ("/health", "/v1/health", "/metrics")

_log = logging.getLogger("mull.access")


class AccessLog:
    """Wraps the application: times each request, then counts and logs it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[STARTED] = started = time.perf_counter()
        scope[_REPLIES] = []
        status = _LEFT  # unless something is sent

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            status = 500 if status == _LEFT else status  # a bug, which is answered further out
            raise
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(path, _method(scope), status).inc()
            level = logging.DEBUG if scope["path"] in _QUIET else logging.INFO
            if _log.isEnabledFor(level):
                _log.log(level, "%s", _line(scope, status, time.perf_counter() - started))


def count_reply(scope: Scope, metrics: Metrics, model: str, reply: Reply) -> None:
    """Take note of a reply that has ended."""
    started = scope.get(STARTED, reply.begun_at)
    first = None if reply.first_at is None else reply.first_at - started
    metrics.count_reply(model, reply.done, first, time.perf_counter() - started)
    scope.get(_REPLIES, []).append((model, first, reply.done))


def _line(scope: Scope, status: int, seconds: float) -> str:
    path = scope["path"][:200].encode("unicode_escape").decode("ascii")  # one line, whatever was asked for
    parts = [f"{_method(scope)} {path} {status} {seconds:.3f}s"]
    replies: list[tuple[str, float | None, Done | None]] = scope[_REPLIES]
    for model, first, done in replies[:8]:
        parts.append(f"model={model}")
        if done is not None:
            parts.append(_costs(done))
        if first is not None:
            parts.append(f"first={first:.3f}s")
    return " ".join(parts)


def _costs(done: Done) -> str:
    usage, report = done.usage, done.thinking.report
    of = f"/{report.budget}" if report is not None and report.budget is not None else ""
    left_out = f" truncated={done.truncated.messages}" if done.truncated is not None else ""
    return (
        f"prompt={usage.prompt_tokens} cached={usage.cached_tokens} tokens={usage.completion_tokens} "
        f"thinking={usage.thinking_tokens}{of} end={done.reason}{left_out}"
    )


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in _METHODS else "other"
