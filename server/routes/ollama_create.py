"""Ollama's endpoints that bring models in and out: create, blobs, pull and push."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ...errors import InvalidRequest
from ...registry.disk import disk_errors
from ...registry.incoming import incoming
from ...registry.manifest import DIGEST
from ...registry.store import Store
from ..adapters import ollama_create
from ..adapters.ollama_fields import CreateBody, TransferBody
from ..bodies import described, leaving, read_body, told
from ..creation import Order, fulfil
from ..facts import inspect
from ..progress import Report, progress_response
from .ollama_models import named, store_of

if TYPE_CHECKING:
    from ...registry.events import Event
    from ...registry.web import Cancellation

router = APIRouter()


@router.post("/api/create", response_model=None, openapi_extra=described(CreateBody))
async def create(request: Request) -> Response:
    """Make a model from another or from uploaded files, telling each step."""
    body = await read_body(request, CreateBody)
    name = named(body.asked)
    files = {
        **ollama_create.checked(body.files, "files"),
        **ollama_create.checked(body.adapters, "adapters"),
    }
    order = Order(name, ollama_create.modelfile(body), files, body.quantize)
    work = partial(fulfil, order, store_of(request))
    return await progress_response(
        work, stream=body.stream is not False, headers=told(body.unknown()), receive=request.receive
    )


@router.head("/api/blobs/{digest}", include_in_schema=False)
async def has_blob(request: Request, digest: str) -> Response:
    """Tell by the status whether a file was uploaded."""
    path = store_of(request).blob_path(_checked(digest))
    return Response(status_code=200 if path.is_file() else 404)


@router.post("/api/blobs/{digest}", response_model=None)
async def put_blob(request: Request, digest: str) -> Response:
    """Take a file of this digest into the store."""
    store = store_of(request)
    if store.blob_path(_checked(digest)).is_file():
        return Response(status_code=200)
    found = hashlib.sha256()
    # Not in a `with`: the folder is made and removed on the disk, which the loop does not wait for.
    room = incoming(store.root)
    folder = await run_in_threadpool(room.__enter__)
    try:
        path = folder / "blob"
        with disk_errors("store an uploaded file"), path.open("wb") as file, leaving():
            async for piece in request.stream():
                await asyncio.to_thread(file.write, piece)
                found.update(piece)
        if f"sha256:{found.hexdigest()}" != digest:
            raise InvalidRequest(f'digest mismatch, expected "{digest}", got "sha256:{found.hexdigest()}"')
        await run_in_threadpool(store.add_blob_from_file, path)
    finally:
        await run_in_threadpool(room.__exit__, None, None, None)
    return Response(status_code=201)


@router.post("/api/pull", response_model=None, openapi_extra=described(TransferBody))
async def pull(request: Request) -> Response:
    """Fetch a model from a registry, Hugging Face or an address, telling each step; what has come stays."""
    return await _transfer(request, _pull)


@router.post("/api/push", response_model=None, openapi_extra=described(TransferBody))
async def push(request: Request) -> Response:
    """Send a model to the registry that its name begins with, telling each step."""
    return await _transfer(request, _push)


async def _transfer(request: Request, transfer: Callable[[_Transfer], object]) -> Response:
    from ...registry.web import Cancellation

    body = await read_body(request, TransferBody)
    if not body.asked:
        raise InvalidRequest("model is required", field="model")
    stop, store = Cancellation(), store_of(request)

    def work(report: Report) -> None:
        insecure = bool(body.insecure)
        transfer(_Transfer(body.asked, store, lambda event: report(event.to_json()), stop, insecure))

    return await progress_response(
        work,
        stream=body.stream is not False,
        headers=told(body.unknown()),
        left=stop.cancel,
        receive=request.receive,
    )


@dataclass(frozen=True, slots=True)
class _Transfer:
    """A model to be fetched or sent, and who is told of it."""

    name: str
    store: Store
    report: Callable[[Event], None]
    stop: Cancellation
    insecure: bool


def _pull(asked: _Transfer) -> None:
    from ...registry.pull import PullOptions, pull
    from ...registry.sources.reference import parse_reference

    if parse_reference(asked.name).source == "file":
        raise InvalidRequest(
            f"{asked.name!r} is a file of the server, which no request may name", field="model"
        )
    options = PullOptions(insecure=asked.insecure, inspect=inspect)
    pull(asked.name, options, store=asked.store, report=asked.report, cancelled=asked.stop)


def _push(asked: _Transfer) -> None:
    from ...registry.push import push

    push(asked.name, insecure=asked.insecure, store=asked.store, report=asked.report, cancelled=asked.stop)


def _checked(digest: str) -> str:
    """Return a digest that is one; raises InvalidRequest."""
    if not DIGEST.fullmatch(digest):
        raise InvalidRequest("invalid digest format", field="digest")
    return digest
