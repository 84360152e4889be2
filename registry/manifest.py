"""Manifests: which blobs make up a model, written as Docker's schema 2 with Ollama's media types."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import StoreError

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
MODEL = "application/vnd.ollama.image.model"
PROJECTOR = "application/vnd.ollama.image.projector"
ADAPTER = "application/vnd.ollama.image.adapter"
DRAFT = "application/vnd.ollama.image.draft"
TEMPLATE = "application/vnd.ollama.image.template"
SYSTEM = "application/vnd.ollama.image.system"
PARAMS = "application/vnd.ollama.image.params"
MESSAGES = "application/vnd.ollama.image.messages"
LICENSE = "application/vnd.ollama.image.license"
FILE = "application/vnd.mull.image.file"

TITLE = "org.opencontainers.image.title"
SOURCE, REVISION = "org.opencontainers.image.source", "org.opencontainers.image.revision"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SAFE_TITLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ ()\[\]-]{0,254}")
# A template, system prompt or licence beyond this size is no text that a person wrote.
MAX_TEXT_BYTES = 64 << 20

Json = Mapping[str, object]


def digest_of(data: bytes) -> str:
    """Return the content address of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def is_safe_title(title: str) -> bool:
    """Tell whether a file name can be created inside a folder without leaving it."""
    return _SAFE_TITLE.fullmatch(title) is not None


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model; `title` is its file name where names matter."""

    media_type: str
    digest: str
    size: int
    title: str | None = None
    from_name: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the layer as it stands in a manifest."""
        out: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.from_name is not None:
            out["from"] = self.from_name
        if self.title is not None:
            out["annotations"] = {TITLE: self.title}
        return out

    @classmethod
    def from_json(cls, value: object) -> Layer:
        """Check and read one layer; raise StoreError."""
        if not isinstance(value, dict):
            raise StoreError("a layer is not an object")
        media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
        if not isinstance(media_type, str):
            raise StoreError("a layer has no media type")
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise StoreError(f"{digest!r} is not a digest")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise StoreError(f"{size!r} is not the size of a blob")
        annotations = value.get("annotations")
        title = annotations.get(TITLE) if isinstance(annotations, dict) else None
        if title is not None and (not isinstance(title, str) or not is_safe_title(title)):
            raise StoreError(f"{title!r} is not a safe file name")
        origin = value.get("from")
        return cls(media_type, digest, size, title, origin if isinstance(origin, str) else None)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model: its config blob and its layers, in order; `source` and `revision` say where it was pulled from."""

    config: Layer
    layers: tuple[Layer, ...]
    source: str = ""
    revision: str = ""

    def of(self, *media_types: str) -> tuple[Layer, ...]:
        """Return the layers of these media types."""
        return tuple(layer for layer in self.layers if layer.media_type in media_types)

    @property
    def size(self) -> int:
        """Bytes of all blobs together."""
        return self.config.size + sum(layer.size for layer in self.layers)

    def to_bytes(self) -> bytes:
        """Return the manifest's file; its digest is the model's ID."""
        out: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        notes = {key: value for key, value in ((SOURCE, self.source), (REVISION, self.revision)) if value}
        if notes:
            out["annotations"] = notes
        return json.dumps(out, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Check and read a manifest's file; raise StoreError."""
        value = _json(data, "the manifest")
        if not isinstance(value, dict) or value.get("schemaVersion") != 2:
            raise StoreError("the manifest is not of schema version 2")
        layers = value.get("layers")
        if not isinstance(layers, list):
            raise StoreError("the manifest has no list of layers")
        notes = value.get("annotations")
        notes = notes if isinstance(notes, dict) else {}
        known = [text if isinstance(text := notes.get(key), str) else "" for key in (SOURCE, REVISION)]
        config = Layer.from_json(value.get("config"))
        return cls(config, tuple(Layer.from_json(layer) for layer in layers), *known)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The config blob: what a listing says about a model without opening its weights."""

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] = ()
    model_type: str = ""
    file_type: str = ""
    context_length: int | None = None
    renderer: str = ""
    parser: str = ""
    requires: str = ""

    def to_bytes(self, layers: tuple[Layer, ...] = ()) -> bytes:
        """Return the config blob of a model with these layers."""
        out: dict[str, object] = {
            "model_format": self.model_format,
            "model_family": self.model_family,
            "model_families": list(self.model_families),
            "model_type": self.model_type,
            "file_type": self.file_type,
        }
        if self.context_length is not None:
            out["context_length"] = self.context_length
        for key in ("renderer", "parser", "requires"):
            if getattr(self, key):
                out[key] = getattr(self, key)
        out["rootfs"] = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
        return json.dumps(out, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ModelConfig:
        """Check and read a config blob; raise StoreError."""
        value = _json(data, "the config")
        if not isinstance(value, dict):
            raise StoreError("the config is not an object")

        def text(key: str) -> str:
            found = value.get(key)
            return found if isinstance(found, str) else ""

        families = value.get("model_families")
        families = families if isinstance(families, list) else []
        length = value.get("context_length")
        return cls(
            model_format=text("model_format"),
            model_family=text("model_family"),
            model_families=tuple(f for f in families if isinstance(f, str)),
            model_type=text("model_type"),
            file_type=text("file_type"),
            context_length=length if isinstance(length, int) and length > 0 else None,
            renderer=text("renderer"),
            parser=text("parser"),
            requires=text("requires"),
        )


@dataclass(frozen=True, slots=True)
class Contents:
    """What a manifest says beside the weights, read from its blobs."""

    config: ModelConfig
    template: str | None
    system: str | None
    parameters: dict[str, object]
    messages: tuple[tuple[str, str], ...]
    licenses: tuple[str, ...]
    adapters: tuple[Path, ...]
    drafts: tuple[Path, ...]
    projectors: tuple[Path, ...]


def read_contents(
    manifest: Manifest, read: Callable[[str], bytes], paths: Callable[[tuple[Layer, ...]], tuple[Path, ...]]
) -> Contents:
    """Read the small blobs with `read` (of a digest), find the large ones with `paths`; raise StoreError."""

    def texts(media_type: str) -> tuple[str, ...]:
        return tuple(_text(layer, read) for layer in manifest.of(media_type))

    template, system = texts(TEMPLATE), texts(SYSTEM)
    parameters: dict[str, object] = {}
    for text in texts(PARAMS):
        value = _json(text.encode(), "the parameters")
        if not isinstance(value, dict):
            raise StoreError("the parameters are not an object")
        parameters.update(value)
    return Contents(
        config=ModelConfig.from_bytes(_text(manifest.config, read).encode()),
        template=template[-1] if template else None,
        system=system[-1] if system else None,
        parameters=parameters,
        messages=tuple(message for text in texts(MESSAGES) for message in _messages(text)),
        licenses=texts(LICENSE),
        adapters=paths(manifest.of(ADAPTER)),
        drafts=paths(manifest.of(DRAFT)),
        projectors=paths(manifest.of(PROJECTOR)),
    )


def _messages(text: str) -> list[tuple[str, str]]:
    value = _json(text.encode(), "the messages")
    out = []
    for item in value if isinstance(value, list) else [None]:
        role, content = (item.get("role"), item.get("content")) if isinstance(item, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            raise StoreError("the messages are not a list of role and content")
        out.append((role, content))
    return out


def _text(layer: Layer, read: Callable[[str], bytes]) -> str:
    if layer.size > MAX_TEXT_BYTES:
        raise StoreError(f"blob {layer.digest} is too large to be text: {layer.size} bytes")
    try:
        return read(layer.digest).decode()
    except UnicodeDecodeError as error:
        raise StoreError(f"blob {layer.digest} is not UTF-8 text") from error


def _json(data: bytes, what: str) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{what} is not JSON: {error}") from error
