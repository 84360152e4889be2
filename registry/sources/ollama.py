"""Models in registries of Ollama's kind, and what other programs keep in such registries."""

from __future__ import annotations

import json

from ...errors import NotSupported, RemoteError, StoreError
from ..manifest import CONFIG, FILE, LICENSE, MODEL, PROJECTOR, TEMPLATE, TITLE, Layer, Manifest, digest_of
from ..oci import Registry
from ..remote import RemoteBlob, RemoteModel
from .reference import Reference

_OURS = ("application/vnd.ollama.", "application/vnd.mull.")
# Docker's model runner, from its model-spec.
_DOCKERS = {
    "application/vnd.docker.ai.gguf.v3": MODEL,
    "application/vnd.docker.ai.license": LICENSE,
    "application/vnd.docker.ai.mmproj": PROJECTOR,
    "application/vnd.docker.ai.chat.template.jinja": TEMPLATE,
}


def resolve_oci(reference: Reference, registry: Registry) -> RemoteModel:
    """Find the blobs of a model of a registry; raises MullError."""
    data = registry.manifest()
    manifest = read_manifest(data, str(reference.name))
    config = None
    if manifest.config.media_type == CONFIG:
        config = _blob(manifest.config, registry)
    blobs = tuple(_blob(layer, registry) for layer in manifest.layers)
    source = f"{'http' if registry.plain else 'oci'}://{registry.name.full()}"
    return RemoteModel(reference.name, blobs, config, source=source, revision=digest_of(data))


def read_manifest(data: bytes, name: str) -> Manifest:
    """Read what a registry sent, other programs' media types as ours; raises RemoteError or NotSupported."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RemoteError(f"the manifest of '{name}' is not JSON: {error}") from error
    if isinstance(value, dict) and isinstance(value.get("manifests"), list):
        raise NotSupported(f"'{name}' is a list of images for several platforms, and no model")
    _translate(value)
    try:
        manifest = Manifest.from_bytes(json.dumps(value).encode())
    except StoreError as error:
        raise RemoteError(f"the manifest of '{name}' is wrong: {error.message}") from error
    if not manifest.of(MODEL, FILE):
        kinds = sorted({layer.media_type.rpartition(".")[2] for layer in manifest.layers})
        raise NotSupported(
            f"'{name}' has no weights that can be used",
            hint=f"it has layers of {', '.join(kinds) or 'no kind'}",
        )
    return manifest


def _translate(value: object) -> None:
    """Give layers of other programs our media types, in place."""
    layers = value.get("layers") if isinstance(value, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        if not isinstance(layer, dict):
            continue
        kind, notes = str(layer.get("mediaType")), layer.get("annotations")
        title = notes.get(TITLE) if isinstance(notes, dict) else None
        if kind in _DOCKERS:
            layer["mediaType"] = _DOCKERS[kind]
            layer.pop("annotations", None)
        elif isinstance(title, str) and title.lower().endswith(".gguf") and not kind.startswith(_OURS):
            layer["mediaType"] = MODEL  # a file that `oras push` sent


def _blob(layer: Layer, registry: Registry) -> RemoteBlob:
    return RemoteBlob(
        layer.media_type,
        layer.title or layer.media_type.rpartition(".")[2].removesuffix("+json"),
        url=registry.blob_url(layer.digest),
        size=layer.size,
        digest=layer.digest,
        title=layer.title,
        site=registry,
    )
