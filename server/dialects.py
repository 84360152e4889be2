"""Which dialect a path speaks, and how that one writes errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.responses import JSONResponse

from ..errors import MullError
from .adapters import anthropic, native, ollama, openai

Shape = Callable[[MullError], Mapping[str, object]]


def shape_of(path: str) -> Shape:
    """Return how the dialect of a path writes errors."""
    if path.startswith("/v1/messages"):
        return anthropic.error
    if path.startswith("/mull/"):
        return native.error
    return ollama.error if path.startswith("/api/") else openai.error


def error_response(
    path: str, error: MullError, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an error as the dialect of a path writes it."""
    body = dict(shape_of(path)(error))
    if status is None and error.status == 503:
        headers = {"Retry-After": "1", **(headers or {})}
    return JSONResponse(body, status_code=status or error.status, headers=dict(headers or {}))
