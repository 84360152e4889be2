"""Which dialect a request speaks, and how that one writes errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Scope

from ..errors import MullError
from .adapters import anthropic, llamacpp, native, ollama, openai

Shape = Callable[[MullError], Mapping[str, object]]

_LLAMACPP = frozenset(
    ("/completion", "/completions", "/tokenize", "/detokenize", "/apply-template", "/props", "/slots")
) | {"/v1/chat/completions/control"}


def shape_of(scope: Scope) -> Shape:
    """Return how the dialect of a request writes errors."""
    path: str = scope["path"]
    if path in _LLAMACPP:
        return llamacpp.error
    # Anthropic's clients list models where OpenAI's do.
    is_list = path == "/v1/models" or path.startswith("/v1/models/")
    if path.startswith("/v1/messages") or (is_list and "anthropic-version" in Headers(scope=scope)):
        return anthropic.error
    if path.startswith("/mull/"):
        return native.error
    return ollama.error if path.startswith("/api/") else openai.error


def error_response(
    scope: Scope, error: MullError, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an error as the dialect of a request writes it."""
    body = dict(shape_of(scope)(error))
    if status is None and error.status == 503:
        headers = {"Retry-After": "1", **(headers or {})}
    return JSONResponse(body, status_code=status or error.status, headers=dict(headers or {}))
