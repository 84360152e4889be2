"""Ollama's endpoints about models: which there are, what they are, copies and removal; and the version."""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ... import __version__
from ...errors import InvalidName, InvalidRequest, ModelNotFound, MullError
from ...models.checkpoint.open import open_checkpoint
from ...models.checkpoint.summary import embedding_length
from ...registry.manifest import ModelConfig
from ...registry.name import ModelName
from ...registry.store import Entry, Store
from ...registry.target import Target
from ...settings import Settings
from ..adapters import ollama_models
from ..adapters.ollama_fields import CopyBody, NameBody, ShowBody
from ..bodies import described, read_body, told
from ..facts import Facts, inspect
from ..loading import find
from ..pool import ModelPool

router = APIRouter()


@router.head("/api/version", include_in_schema=False)
@router.get("/api/version")
async def version() -> dict[str, str]:
    """Return mull's version."""
    return {"version": __version__}


@router.head("/api/tags", include_in_schema=False)
@router.get("/api/tags")
async def tags(request: Request) -> dict[str, object]:
    """List the models of the store, the last modified first."""
    return {"models": await run_in_threadpool(_listed, store_of(request))}


@router.get("/api/ps")
async def ps(request: Request) -> dict[str, object]:
    """List the models in memory, the one that stays longest first."""
    pool: ModelPool = request.app.state.pool
    lines = [
        ollama_models.loaded(model, await run_in_threadpool(_config_of, model.found.target))
        for model in pool.loaded
    ]
    return {"models": sorted(lines, key=lambda line: str(line["expires_at"]), reverse=True)}


@router.post("/api/show", response_model=None, openapi_extra=described(ShowBody))
async def show(request: Request) -> Response:
    """Tell what a model is, from its headers and its Modelfile."""
    body = await read_body(request, ShowBody)
    target = await find_model(request, body.asked)
    found = await run_in_threadpool(_shown, body, target)
    return JSONResponse(found, headers=told(body.unknown()))


@router.post("/api/copy", response_model=None, openapi_extra=described(CopyBody))
async def copy(request: Request) -> Response:
    """Give a model a second name."""
    body = await read_body(request, CopyBody)
    source, destination = _valid(body.source, "source"), _valid(body.destination, "destination")
    try:
        await run_in_threadpool(store_of(request).copy, source, destination)
    except ModelNotFound as missing:
        raise ModelNotFound(f'model "{body.source}" not found', hint=missing.hint) from None
    return Response(status_code=200, headers=told(body.unknown()))


@router.delete("/api/delete", response_model=None, openapi_extra=described(NameBody))
async def delete(request: Request) -> Response:
    """Take a name away, with the files that no other name uses; a model in memory goes when nobody uses it."""
    body = await read_body(request, NameBody)
    name = _valid(body.asked, "name")
    try:
        await run_in_threadpool(store_of(request).remove, name)
    except ModelNotFound as missing:
        raise ModelNotFound(f"model '{body.asked}' not found", hint=missing.hint) from None
    pool: ModelPool = request.app.state.pool
    if any(model.name.lower() == name.lower() for model in pool.loaded):
        with suppress(ModelNotFound):  # which makes the pool let go of it
            await pool.unload(name)
    return Response(status_code=200, headers=told(body.unknown()))


def store_of(request: Request) -> Store:
    """Return the server's store."""
    settings: Settings = request.app.state.settings
    return Store(settings.models_dir)


def named(text: str) -> ModelName:
    """Return the name that a request gives; raises InvalidRequest for none, InvalidName for one that cannot be."""
    if not text:
        raise InvalidRequest("model is required", field="model")
    return ModelName.parse(text)


def check_name(request: Request, model: str) -> None:
    """Raise InvalidName for what is neither a name nor a file that the server was started with."""
    pool: ModelPool = request.app.state.pool
    if model not in pool.options.models:
        named(model)


async def find_model(request: Request, model: str) -> Target:
    """Look a model up that a request names: one of the store, or a file that the server was started with.

    Raises InvalidRequest, InvalidName, ModelNotFound.
    """
    check_name(request, model)
    pool: ModelPool = request.app.state.pool
    return (await run_in_threadpool(find, model, pool.options, pool.settings)).target


async def own_context(request: Request, model: str) -> int | None:
    """Return the context that a model was made for, if its files say."""
    target = await find_model(request, model)
    return (await run_in_threadpool(_config_of, target)).context_length


def _valid(text: str, what: str) -> str:
    """Return a name that is one; raises InvalidName in Ollama's words."""
    try:
        return ModelName.parse(text).short()
    except InvalidName as error:
        raise InvalidName(f'{what} "{text}" is invalid', hint=error.hint) from None


def _listed(store: Store) -> list[dict[str, object]]:
    return [ollama_models.listed(entry, _stored_config(store, entry)) for entry in store.list()]


def _stored_config(store: Store, entry: Entry) -> ModelConfig:
    """Return what the store says of a model, or else its file's headers."""
    try:
        config = ModelConfig.from_bytes(store.read_blob(entry.manifest.config.digest))
        if config.model_family:
            return config
        return ollama_models.as_config(inspect(store.model_path(entry.manifest)))
    except MullError:  # a list is no place to say that a file is damaged
        return ModelConfig()


def _config_of(target: Target) -> ModelConfig:
    """Return what is said of a model; raises a CheckpointError for a file that cannot be read."""
    config = target.contents.config if target.contents is not None else ModelConfig()
    return config if config.model_family else ollama_models.as_config(inspect(target.path))


def _shown(body: ShowBody, target: Target) -> dict[str, object]:
    with open_checkpoint(target.path) as checkpoint:
        config = _config_of(target)
        return ollama_models.shown(Facts(target, checkpoint), config, embedding_length(checkpoint), body)
