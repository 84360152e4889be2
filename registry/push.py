"""Pushes a stored model to a registry: its blobs, those that are there already excepted, then its manifest."""

from __future__ import annotations

from dataclasses import replace

from ..errors import InvalidRequest
from ..settings import Remotes, load_remotes, load_settings
from .events import Event, Report, silent
from .manifest import CONFIG, Layer
from .name import DEFAULT_HOST, ModelName
from .oci import Registry, check_plain
from .sources.reference import parse_reference
from .store import Entry, Store
from .web import Cancellation, Patience, Web


def push(
    name: str,
    target: str | None = None,
    *,
    insecure: bool = False,
    store: Store | None = None,
    remotes: Remotes | None = None,
    report: Report = silent,
    cancelled: Cancellation | None = None,
) -> ModelName:
    """Send a model to the registry that `target`, or else its own name, begins with; raises MullError."""
    remotes = remotes or load_remotes()
    store = store or Store(load_settings().models_dir)
    entry = store.find(name)
    wanted, plain = _target(target or name)
    with Web(Patience(), cancelled) as web:
        plain = check_plain(wanted, plain=plain, insecure=insecure)
        registry = Registry(wanted, web, remotes.docker_config, plain=plain)
        report(Event("retrieving manifest"))
        for layer in dict.fromkeys((*entry.manifest.layers, entry.manifest.config)):
            _send(registry, store, entry, layer, report)
        report(Event("pushing manifest"))
        # Where it was pulled from is its owner's business.
        registry.put_manifest(replace(entry.manifest, source="", revision=""))
    report(Event("success"))
    return wanted


def _target(text: str) -> tuple[ModelName, bool]:
    reference = parse_reference(text)
    if reference.source != "oci":
        hint = "name a registry: llm push MODEL registry.example.com/user/model"
        raise InvalidRequest(f"{text!r} is no place to push to", hint=hint)
    if reference.name.host == DEFAULT_HOST and "/" not in text:
        hint = f"llm push {text} registry.example.com/user/{reference.name.model}"
        raise InvalidRequest(f"to which registry is '{text}' to be pushed?", hint=hint)
    return reference.name, reference.plain


def _send(registry: Registry, store: Store, entry: Entry, layer: Layer, report: Report) -> None:
    status = f"pushing {layer.digest.removeprefix('sha256:')[:12]}"
    if registry.has(layer.digest):
        report(
            Event(
                status, "progress", layer.digest, layer.size, layer.size, seconds_left=0.0, name=layer.title
            )
        )
        return
    if entry.bundled and layer.media_type == CONFIG:
        registry.upload_bytes(store.read_blob(layer.digest), layer, report)
    else:
        registry.upload(store.blob_path(layer.digest), layer, report)
