"""The HTTP application: every dialect's endpoints over one pool of models, and errors in each one's own form."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ..errors import InvalidRequest, MullError
from ..settings import Settings
from .access import AccessLog
from .dialects import error_response
from .metrics import Metrics
from .options import ServerOptions
from .pool import ModelPool
from .routes import anthropic as anthropic_routes
from .routes import health as health_routes
from .routes import llamacpp as llamacpp_routes
from .routes import native as native_routes
from .routes import ollama as ollama_routes
from .routes import openai as openai_routes
from .routes import page as page_routes
from .security import Gate

_ROUTES = (
    page_routes,
    ollama_routes,
    openai_routes,
    anthropic_routes,
    llamacpp_routes,
    native_routes,
    health_routes,
)


def make_app(options: ServerOptions, settings: Settings, pool: ModelPool | None = None) -> FastAPI:
    """Return the application; it unloads its models when it ends."""
    models = pool or ModelPool(options, settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await models.close()

    # FastAPI's own pages on the document would be loaded from other machines.
    app = FastAPI(title="mull", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.pool = models
    app.state.settings = settings
    app.state.options = options
    app.state.metrics = Metrics(models)
    for routes in _ROUTES:
        app.include_router(routes.router)
    app.add_exception_handler(MullError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(Gate, options=options)
    app.add_middleware(AccessLog, metrics=app.state.metrics)
    return app


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MullError)
    return error_response(request.scope, error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with the first field that is."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "body")
    message = first["msg"] if not field else f"{field}: {first['msg']}"
    return error_response(request.scope, InvalidRequest(message, field=field or None))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, MullError):  # a body of ours that FastAPI could not read
        return error_response(request.scope, error.__cause__)
    failure = MullError("404 page not found" if error.status_code == 404 else str(error.detail))
    failure.status = error.status_code
    return error_response(request.scope, failure, headers=error.headers)


async def _bug(request: Request, error: Exception) -> JSONResponse:
    return error_response(request.scope, MullError(f"internal error: {type(error).__name__}"))
