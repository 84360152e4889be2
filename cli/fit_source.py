"""Where the model that `llm fit` is asked about lies, here or elsewhere; opened by its headers either way."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import CheckpointError, InvalidName, ModelNotFound, Unreachable
from ..settings import load_remotes, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..models.checkpoint.base import Checkpoint
    from ..registry.remote import RemoteBlob
    from ..registry.sources.quants import Choice, Machine
    from ..registry.sources.reference import Reference
    from ..registry.target import Target
    from ..registry.web import Web


@dataclass(frozen=True, slots=True)
class Offer:
    """What a repository has: its models, which of them a pull takes, and why."""

    choices: tuple[Choice, ...]
    chosen: Choice
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """An opened model: the context that its Modelfile sets, and what else its repository offers.

    where: the file or folder on this machine, None for a model elsewhere.
    """

    name: str
    checkpoint: Checkpoint
    num_ctx: object = None
    where: Path | None = None
    offer: Offer | None = None


@contextmanager
def open_source(model: str) -> Iterator[Source]:
    """Open a model's headers: of this machine if it is here, else fetched from where a pull would get it.

    A repository named without a quantization is asked for all that it has. Raises MullError.
    """
    from ..models.checkpoint.open import open_checkpoint

    target, error = _find(model)
    reference = _reference(model)
    with ExitStack() as stack:
        if reference is not None and (target is None or _is_repository(reference)):
            try:
                source = stack.enter_context(_elsewhere(model, reference))
            except Unreachable as unreachable:
                if target is None:
                    # A word that is none of our models is more likely misspelt than unreachable.
                    raise error if error is not None and "/" not in model else unreachable from None
            else:
                yield source
                return
        if target is None:
            assert error is not None
            raise error
        checkpoint = stack.enter_context(open_checkpoint(target.path))
        said = target.contents.parameters.get("num_ctx") if target.contents is not None else None
        yield Source(model, checkpoint, said, target.path)


def _find(model: str) -> tuple[Target | None, ModelNotFound | InvalidName | None]:
    from ..registry.target import find_target

    try:
        return find_target(model), None
    except (ModelNotFound, InvalidName) as error:
        return None, error


def _reference(model: str) -> Reference | None:
    """Return what a pull would take the words for; None for a file of this machine."""
    from ..registry.sources.reference import parse_reference

    if "/" not in model and model.lower().endswith((".gguf", ".safetensors")):
        return None
    with suppress(InvalidName):
        reference = parse_reference(model)
        return None if reference.source == "file" else reference
    return None


def _is_repository(reference: Reference) -> bool:
    return reference.source in ("hub", "modelscope") and reference.wanted in ("", "latest")


@contextmanager
def _elsewhere(model: str, reference: Reference) -> Iterator[Source]:
    """Fetch the headers of a model, or of the best of a repository."""
    from ..models.checkpoint.heads import wanted
    from ..models.checkpoint.open import open_checkpoint
    from ..registry.headers import fetched_headers
    from ..registry.sources.quants import this_machine
    from ..registry.web import Patience, Web

    machine = this_machine(load_settings().models_dir)
    with Web(Patience(tries=3)) as web, ExitStack() as stack:
        blobs, offer = _resolve(reference, web, machine)
        path = stack.enter_context(fetched_headers(blobs, wanted, web))
        folder = path if path.is_dir() else path.parent
        with _without(folder, model):
            checkpoint = stack.enter_context(open_checkpoint(path))
            num_ctx = _num_ctx(blobs, web)
        with _without(folder, model):
            yield Source(model, checkpoint, num_ctx, offer=offer)


def _resolve(reference: Reference, web: Web, machine: Machine) -> tuple[tuple[RemoteBlob, ...], Offer | None]:
    """Return what a pull would fetch, and the choice that it was made from."""
    from ..registry.pull import resolve
    from ..registry.sources.hub import list_hub
    from ..registry.sources.modelscope import list_modelscope
    from ..registry.sources.quants import best
    from ..registry.store import Store

    remotes = load_remotes()
    if not _is_repository(reference):
        return resolve(reference, Store(load_settings().models_dir), remotes, web).blobs, None
    ask = list_hub if reference.source == "hub" else list_modelscope
    _, repository = ask(reference, remotes, web)
    choices = repository.choices()
    if not choices:
        return repository.take(machine).blobs, None
    chosen, reason = best(choices, machine)
    return repository.pick(chosen).blobs, Offer(tuple(choices), chosen, reason)


def _num_ctx(blobs: tuple[RemoteBlob, ...], web: Web) -> object:
    """Return the context that a model's parameters set, if it brings any."""
    from ..registry.manifest import PARAMS

    for blob in blobs:
        if blob.media_type == PARAMS and blob.url:
            body, _ = web.fetch(blob.url, blob.site)
            with suppress(ValueError, RecursionError):
                said = json.loads(body)
                return said.get("num_ctx") if isinstance(said, dict) else None
    return None


@contextmanager
def _without(folder: Path, model: str) -> Iterator[None]:
    """Name the model, and not the folder that its headers lie in, in what goes wrong."""
    try:
        yield
    except CheckpointError as error:
        error.message = error.message.replace(f"{folder}/", "").replace(str(folder), model)
        error.args = (error.message,)
        raise
