"""The HTTP application: every dialect's endpoints over one pool of models, and errors in each one's own form."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ..errors import InvalidRequest, MullError
from ..settings import Settings
from .adapters import anthropic, ollama, openai
from .options import ServerOptions
from .pool import ModelPool
from .routes import anthropic as anthropic_routes
from .routes import ollama as ollama_routes
from .routes import openai as openai_routes

Shape = Callable[[MullError], Mapping[str, object]]


def make_app(options: ServerOptions, settings: Settings, pool: ModelPool | None = None) -> FastAPI:
    """Return the application; it unloads its models when it ends."""
    models = pool or ModelPool(options, settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await models.close()

    app = FastAPI(title="mull", lifespan=lifespan)
    app.state.pool = models
    app.state.settings = settings
    for routes in (ollama_routes, openai_routes, anthropic_routes):
        app.include_router(routes.router)
    app.add_exception_handler(MullError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)
    return app


def shape_of(path: str) -> Shape:
    """Return how the dialect of a path writes errors."""
    if path.startswith("/v1/messages"):
        return anthropic.error
    return ollama.error if path.startswith("/api/") else openai.error


def _answer(request: Request, error: MullError, status: int | None = None) -> JSONResponse:
    shape = shape_of(request.url.path)
    return JSONResponse(dict(shape(error)), status_code=status or error.status)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MullError)
    return _answer(request, error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with the first field that is."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "body")
    message = first["msg"] if not field else f"{field}: {first['msg']}"
    return _answer(request, InvalidRequest(message, field=field or None))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _answer(request, MullError(str(error.detail)), error.status_code)


async def _bug(request: Request, error: Exception) -> JSONResponse:
    return _answer(request, MullError(f"internal error: {type(error).__name__}"), 500)
