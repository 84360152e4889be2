"""Make a stored model from a Modelfile."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InvalidName, ModelNotFound, UnknownFormat
from .files import ModelFiles, find_model_files, starts_with
from .manifest import (
    ADAPTER,
    CONFIG,
    DRAFT,
    FILE,
    LICENSE,
    MESSAGES,
    MODEL,
    PARAMS,
    PROJECTOR,
    SYSTEM,
    TEMPLATE,
    Layer,
    Manifest,
    ModelConfig,
)
from .modelfile import Command, Modelfile
from .name import ModelName
from .store import Entry, Store

# The order of a manifest's layers, so that the same model has the same digest however it was made.
_ORDER = (MODEL, FILE, PROJECTOR, ADAPTER, DRAFT, TEMPLATE, SYSTEM, PARAMS, MESSAGES, LICENSE)
# Architectures of files that turn images or sound into embeddings for another model.
_PROJECTORS = ("clip", "mmproj")

_ONLY_PROJECTOR = "FROM names a projector only, and no model"

CreateProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Details:
    """What a listing says about a model file, found by whoever can open it."""

    format: str
    family: str
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    quantization: str = ""
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class Making:
    """How a model is made.

    base: the folder that relative paths start from; inspect: opens a model file and describes it, or raises;
    progress: gets a file's name and its bytes done and in all; weights: the file or folder whose weights take the
    place of those that FROM names.
    """

    base: Path
    inspect: Callable[[Path], Details]
    progress: CreateProgress | None = None
    weights: Path | None = None


def create(
    store: Store,
    name: str | ModelName,
    modelfile: Modelfile,
    *,
    base: Path,
    inspect: Callable[[Path], Details],
    progress: CreateProgress | None = None,
) -> Manifest:
    """Store the model that `modelfile` describes under `name`, as `make` does."""
    return make(store, name, modelfile, Making(base, inspect, progress))


def make(store: Store, name: str | ModelName, modelfile: Modelfile, making: Making) -> Manifest:
    """Store the model that `modelfile` describes under `name`, replacing what had the name.

    Either the whole model stands afterwards or nothing has changed.
    """
    target = ModelName.parse(name) if isinstance(name, str) else name
    with store.adding() as doomed:
        build = _Build(store, making, doomed)
        layers, config = build.weights(modelfile)
        layers = build.extras(modelfile, layers)
        for command in modelfile.commands:
            config = _with(config, command)
        manifest = Manifest(build.blob(config.to_bytes(layers), CONFIG), layers)
        doomed |= store.write_manifest(target, manifest)
    return manifest


def find_weights(store: Store, modelfile: Modelfile, making: Making) -> Path:
    """Return what opens the weights that FROM names; raises as `make` does, and stores nothing."""
    build = _Build(store, making, set())
    for _, source in build.sources(modelfile):
        if isinstance(source, Entry):
            return store.model_path(source.manifest)
        if making.inspect(source.path).family not in _PROJECTORS:
            return source.path
    raise modelfile.all("from")[0].error(_ONLY_PROJECTOR)


@dataclass(frozen=True, slots=True)
class _Build:
    """The steps of one creation; every blob added is noted in `doomed`, in case no manifest keeps it."""

    store: Store
    making: Making
    doomed: set[str]

    def weights(self, modelfile: Modelfile) -> tuple[tuple[Layer, ...], ModelConfig]:
        """Return the layers and the config that FROM brings, inherited ones included."""
        layers: list[Layer] = []
        config: ModelConfig | None = None
        for command, source in self.sources(modelfile):
            details = None if isinstance(source, Entry) else self.making.inspect(source.path)
            if not isinstance(source, Entry) and details and details.family in _PROJECTORS:
                layers += self._add(source, PROJECTOR)
            elif config is not None:
                raise command.error("a model has one FROM beside its projector; this is the second")
            elif isinstance(source, Entry):
                config, inherited = self._inherited(source)
                layers = [*inherited, *layers]
            elif details is not None:
                config = _config(details)
                layers = [*self._add(source, MODEL), *layers]
        if config is None:
            raise modelfile.all("from")[0].error(_ONLY_PROJECTOR)
        return (tuple(layers), config) if self.making.weights is None else self._replaced(layers, config)

    def _replaced(
        self, layers: Sequence[Layer], config: ModelConfig
    ) -> tuple[tuple[Layer, ...], ModelConfig]:
        """Put the given weights in the place of those that were found."""
        assert self.making.weights is not None
        source = find_model_files(self.making.weights)
        said = {key: getattr(config, key) for key in ("renderer", "parser", "requires")}
        config = replace(_config(self.making.inspect(source.path)), **said)
        rest = [layer for layer in layers if layer.media_type not in (MODEL, FILE)]
        return (*self._add(source, MODEL), *rest), config

    def extras(self, modelfile: Modelfile, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        """Add what the other commands say; what they set replaces what was inherited."""
        out = list(layers)
        out += [layer for command in modelfile.all("adapter") for layer in self._adapter(command, out)]
        if (draft := modelfile.last("draft")) is not None:
            out = [layer for layer in out if layer.media_type != DRAFT] + self._draft(draft, modelfile)
        for key, kind in (("template", TEMPLATE), ("system", SYSTEM)):
            if (command := modelfile.last(key)) is not None:
                out = self._set(out, kind, command.value)
        if parameters := modelfile.parameters():
            inherited: dict[str, object] = {}
            for layer in (layer for layer in out if layer.media_type == PARAMS):
                inherited |= json.loads(self.store.read_blob(layer.digest))
            value = json.dumps(inherited | parameters, ensure_ascii=False, sort_keys=True)
            out = self._set(out, PARAMS, value)
        if messages := modelfile.messages():
            turns = [{"role": role, "content": content} for role, content in messages]
            out = self._set(out, MESSAGES, json.dumps(turns, ensure_ascii=False))
        out += [self.blob(command.value.encode(), LICENSE) for command in modelfile.all("license")]
        return tuple(sorted(dict.fromkeys(out), key=_rank))

    def blob(self, data: bytes, kind: str) -> Layer:
        """Store small data."""
        digest, size = self.store.add_blob(data)
        self.doomed.add(digest)
        return Layer(kind, digest, size)

    def _file(self, path: Path, kind: str, *, named: bool) -> Layer:
        progress = self.making.progress
        report = None if progress is None else lambda done, total: progress(path.name, done, total)
        digest, size = self.store.add_blob_from_file(path, report)
        self.doomed.add(digest)
        return Layer(kind, digest, size, path.name if named else None)

    def _add(self, source: ModelFiles, kind: str) -> list[Layer]:
        if source.format == "safetensors" and kind == MODEL:
            kind = FILE
        return [self._file(path, kind, named=source.named) for path in source.files]

    def _set(self, layers: Sequence[Layer], kind: str, text: str) -> list[Layer]:
        """Replace the layers of one kind; an empty text removes them."""
        kept = [layer for layer in layers if layer.media_type != kind]
        return [*kept, self.blob(text.encode(), kind)] if text else kept

    def _inherited(self, entry: Entry) -> tuple[ModelConfig, list[Layer]]:
        self.doomed.update(self.store.adopt(entry))
        config = self.store.read(entry.manifest).config
        if not config.model_family:
            config = _config(self.making.inspect(self.store.model_path(entry.manifest)))
        # A Modelfile cannot say where a layer came from: what `llm show` writes must make the same model.
        return config, [replace(layer, from_name=None) for layer in entry.manifest.layers]

    def sources(self, modelfile: Modelfile) -> list[tuple[Command, Entry | ModelFiles]]:
        """Find what each FROM means, the parts of one split file once."""
        out: list[tuple[Command, Entry | ModelFiles]] = []
        for command in modelfile.all("from"):
            source = self._find(command)
            if all(source != known for _, known in out):
                out.append((command, source))
        return out

    def _find(self, command: Command) -> Entry | ModelFiles:
        """Return the file, folder or stored model that a FROM or DRAFT names."""
        text = command.value
        path = self._path(command)
        refusal: UnknownFormat | None = None
        if text.startswith((".", "/", "~")) or text.endswith(".gguf"):
            if not path.exists():
                raise command.error(f"{command.name.upper()}: no such file or folder: {path}")
            return find_model_files(path)
        if path.exists():
            try:
                return find_model_files(path)
            except UnknownFormat as error:
                refusal = error
        try:
            return self.store.find(text)
        except ModelNotFound as error:
            raise (refusal or error) from error
        except InvalidName as error:
            message = f"{command.name.upper()}: {text!r} is neither a file nor the name of a model"
            raise refusal or command.error(message) from error

    def _path(self, command: Command) -> Path:
        try:
            return Path(os.path.abspath(self.making.base / Path(command.value).expanduser()))
        except RuntimeError as error:
            raise command.error(f"{command.name.upper()}: no such user in {command.value!r}") from error

    def _adapter(self, command: Command, layers: Sequence[Layer]) -> list[Layer]:
        """Keep an adapter: a GGUF or safetensors file, or the folder that PEFT writes."""
        path = self._path(command)
        if path.is_dir():
            names = ("adapter_config.json", "adapter_model.safetensors")
            for name in names:
                if not (path / name).is_file():
                    raise command.error(f"ADAPTER: {path} has no {name}")
            if any(layer.media_type == ADAPTER and layer.title for layer in layers):
                raise command.error("only one ADAPTER can be a folder")
            return [self._file(path / name, ADAPTER, named=True) for name in names]
        if not path.is_file():
            raise command.error(f"ADAPTER: no such file or folder: {path}")
        if starts_with(path)[:4] != b"GGUF" and path.suffix != ".safetensors":
            raise command.error(f"ADAPTER: {path} is neither GGUF nor safetensors")
        return [self._file(path, ADAPTER, named=False)]

    def _draft(self, command: Command, modelfile: Modelfile) -> list[Layer]:
        source = self._find(command)
        if isinstance(source, Entry):
            self.doomed.update(self.store.adopt(source))
            return [replace(layer, media_type=DRAFT) for layer in source.manifest.of(MODEL, FILE)]
        if source in (found for _, found in self.sources(modelfile)):
            raise command.error(
                f"DRAFT must not reference the same local path as FROM: {self._path(command)}"
            )
        return self._add(source, DRAFT)


def _config(details: Details) -> ModelConfig:
    return ModelConfig(
        model_format=details.format,
        model_family=details.family,
        model_families=details.families or (details.family,),
        model_type=details.parameter_size,
        file_type=details.quantization,
        context_length=details.context_length,
    )


def _rank(layer: Layer) -> int:
    return _ORDER.index(layer.media_type) if layer.media_type in _ORDER else len(_ORDER)


def _with(config: ModelConfig, command: Command) -> ModelConfig:
    """Note what a command says about the model as a whole."""
    if command.name == "renderer":
        return replace(config, renderer=command.value)
    if command.name == "parser":
        return replace(config, parser=command.value)
    if command.name == "requires":
        return replace(config, requires=command.value.removeprefix("v"))
    return config
