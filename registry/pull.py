"""Pulls models: from a name to a stored model, whatever the source, with nothing half done in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import (
    CheckpointError,
    DiskFull,
    InvalidName,
    ModelNotFound,
    MullError,
    StoreError,
    TokenizerError,
    Unreachable,
)
from ..settings import Remotes, load_remotes, load_settings
from .create import Details
from .disk import disk_errors, free_bytes
from .download import Arrived, Download
from .events import Event, Report, silent
from .foreign import find_copy
from .manifest import CONFIG, Layer, Manifest, ModelConfig
from .name import ModelName
from .oci import Registry, check_plain
from .partial import pulling
from .remote import RemoteBlob, RemoteModel
from .sources.address import resolve_address
from .sources.hub import resolve_hub
from .sources.local import resolve_file
from .sources.modelscope import resolve_modelscope
from .sources.ollama import resolve_oci
from .sources.quants import in_gb, this_machine
from .sources.reference import Reference, parse_reference
from .store import Store
from .web import Cancellation, Patience, Web

Inspect = Callable[[Path], Details]


@dataclass(frozen=True, slots=True)
class PullOptions:
    """How to pull: `rename` gives another name; `insecure` allows registries without encryption.

    inspect: describes a model file for listings, or raises CheckpointError, which becomes a warning.
    connections: ranges fetched at once. patience: when a silent server is given up.
    """

    rename: str | None = None
    insecure: bool = False
    connections: int = 8
    inspect: Inspect | None = None
    patience: Patience = field(default_factory=Patience)


def pull(
    name: str,
    options: PullOptions | None = None,
    *,
    store: Store | None = None,
    remotes: Remotes | None = None,
    report: Report = silent,
    cancelled: Cancellation | None = None,
) -> ModelName:
    """Bring a model into the store and return the name it has there; raises MullError.

    Either the whole, verified model stands afterwards or nothing has its name; bytes that came stay for the
    next time. report gets an Event for each step, from this thread. cancelled: stops from another thread.
    """
    options = options or PullOptions()
    remotes = remotes or load_remotes()
    store = store or Store(load_settings().models_dir)
    reference = parse_reference(name)
    if options.rename is not None:
        reference = replace(reference, name=ModelName.parse(options.rename))
    elif reference.source == "oci":
        reference = _where_from(name, store) or reference
    with Web(options.patience, cancelled) as web:
        try:
            return _Pull(store, remotes, web, options, report).run(reference)
        except Unreachable as error:
            raise _with_names(error, store) from error
        except ModelNotFound as error:
            raise ModelNotFound(error.message, hint=_where_else(error, reference, store)) from error


def _where_from(name: str, store: Store) -> Reference | None:
    """Return where a stored model came from under another name, such as that of `--as`: it comes from there again."""
    try:
        entry = store.find(name)
    except (InvalidName, ModelNotFound):
        return None
    if not entry.manifest.source:
        return None
    return replace(parse_reference(entry.manifest.source), name=entry.name)


def resolve(
    reference: Reference,
    store: Store,
    remotes: Remotes,
    web: Web,
    *,
    insecure: bool = False,
    revision: str | None = None,
) -> RemoteModel:
    """Ask a source what a model consists of, now or at an earlier revision; raises MullError."""
    if reference.source == "file":
        return resolve_file(reference)
    if reference.source == "address":
        return resolve_address(reference, web)
    if reference.source == "oci":
        parsed = parse_reference(reference.text).name
        plain = check_plain(parsed, plain=reference.plain, insecure=insecure)
        return resolve_oci(reference, Registry(parsed, web, remotes.docker_config, plain=plain))
    machine = this_machine(store.root)
    ask = resolve_hub if reference.source == "hub" else resolve_modelscope
    return ask(reference, remotes, web, machine, revision)


@dataclass(frozen=True, slots=True)
class _Pull:
    """The steps of one pull."""

    store: Store
    remotes: Remotes
    web: Web
    options: PullOptions
    report: Report

    def run(self, reference: Reference) -> ModelName:
        self.report(Event("pulling manifest"))
        model = resolve(reference, self.store, self.remotes, self.web, insecure=self.options.insecure)
        for note in model.notes:
            self.report(Event(note, "note"))
        blobs = [*model.blobs, model.config] if model.config else list(model.blobs)
        with disk_errors("create the model store"):
            self.store.root.mkdir(parents=True, exist_ok=True)
        with pulling(self.store.root):
            arrived = self.fetch(blobs)
            self.web.cancelled.check()
            self.report(Event("writing manifest"))
            manifest = self._commit(model, blobs, arrived)
        if model.config is None:
            self._describe(model, manifest)
        self.report(Event("success"))
        return model.name

    def fetch(self, blobs: Iterable[RemoteBlob]) -> list[Arrived]:
        """Bring blobs, those that are here already excepted; raises DiskFull before anything is fetched."""
        blobs = list(blobs)
        download = Download(
            self.store.root / "partial", self.web, self._has, self.report, self.options.connections
        )
        elsewhere = {blob.key: self._copy(blob) for blob in blobs if blob.digest and blob.path is None}
        coming = [blob for blob in blobs if blob.path is None and not elsewhere.get(blob.key)]
        self._check_room({blob.key: download.remaining(blob) for blob in coming})
        out = []
        for blob in blobs:
            path = blob.path or elsewhere.get(blob.key)
            found = self._link(blob, path) if path is not None else None
            out.append(found or download.run(blob))
        return out

    def _has(self, digest: str, size: int) -> bool:
        """Tell whether the store has a blob in its full length; one that was cut short comes again."""
        with suppress(OSError):
            return self.store.has(digest) and self.store.blob_path(digest).stat().st_size == size
        return False

    def _copy(self, blob: RemoteBlob) -> Path | None:
        """Return another program's copy of a blob that the store lacks."""
        assert blob.digest is not None
        if blob.size is None or self._has(blob.digest, blob.size):
            return None
        return find_copy(blob.digest, blob.size, blob.shown, self.remotes)

    def _link(self, blob: RemoteBlob, path: Path) -> Arrived | None:
        """Take a file of this machine into the store; None where it is not what it should be."""
        if blob.path is None:
            self.report(Event(f"{blob.shown} is on this machine already: {path}", "note"))

        def show(done: int, total: int) -> None:
            self.web.cancelled.check()
            self.report(
                Event("verifying sha256 digest", "progress", blob.digest, total, done, name=blob.shown)
            )

        try:
            digest, size = self.store.add_blob_from_file(path, show)
        except StoreError:
            if blob.path is not None:
                raise
            return None  # another program's, and not for us to read
        return Arrived(digest, size, None) if blob.digest in (None, digest) else None

    def _check_room(self, remaining: dict[str, int]) -> None:
        needed = sum(remaining.values())
        with disk_errors("look at the disk"):
            free = free_bytes(self.store.root)
        if needed > free:
            raise DiskFull(
                f"{in_gb(needed)} are still to come, and only {in_gb(free)} are free on the disk",
                hint="llm prune and llm rm make room; MULL_MODELS names another place for models",
            )

    def _commit(self, model: RemoteModel, blobs: list[RemoteBlob], arrived: list[Arrived]) -> Manifest:
        """Make blobs of what came and give the model its name; what vanished meanwhile is fetched again."""
        while True:
            with ExitStack() as stack:
                doomed = stack.enter_context(self.store.adding())
                for here in arrived:
                    if here.path is not None and here.path.exists():
                        self.store.take_blob(here.path, here.digest)
                lost = [place for place, here in enumerate(arrived) if not self.store.has(here.digest)]
                if not lost:
                    layers = [
                        Layer(blob.media_type, here.digest, here.size, blob.title)
                        for blob, here in zip(blobs, arrived, strict=True)
                    ]
                    config = layers.pop() if model.config else self._config(model, tuple(layers))
                    manifest = Manifest(config, tuple(layers), model.source, model.revision)
                    doomed |= self.store.write_manifest(model.name, manifest)
                    return manifest
            # Another process removed a blob that we took for stored.
            for place, here in zip(lost, self.fetch([blobs[place] for place in lost]), strict=True):
                arrived[place] = here

    def _config(self, model: RemoteModel, layers: tuple[Layer, ...], details: Details | None = None) -> Layer:
        config = ModelConfig(
            model_format=model.details.get("model_format", ""),
            file_type=model.details.get("file_type", ""),
        )
        if details is not None:
            config = replace(
                config,
                model_format=details.format,
                model_family=details.family,
                model_families=details.families or (details.family,),
                model_type=details.parameter_size,
                file_type=details.quantization or config.file_type,
                context_length=details.context_length,
            )
        return Layer(CONFIG, *self.store.add_blob(config.to_bytes(layers)))

    def _describe(self, model: RemoteModel, manifest: Manifest) -> None:
        """Note in the config what the weights say of themselves; warn where they cannot be run."""
        if self.options.inspect is None:
            return
        try:
            details = self.options.inspect(self.store.model_path(manifest))
        except (CheckpointError, TokenizerError) as error:
            self.report(Event(f"this model cannot be run yet: {error.message}", "warning"))
            return
        with self.store.adding() as doomed:
            config = self._config(model, manifest.layers, details)
            with suppress(MullError):
                doomed |= self.store.write_manifest(model.name, replace(manifest, config=config))


def _with_names(error: Unreachable, store: Store) -> Unreachable:
    """Say which models are here, for who has no network."""
    names: list[str] = []
    with suppress(MullError):
        names = [entry.name.short() for entry in store.list()][:5]
    here = f"on this machine: {', '.join(names)}" if names else ""
    hints = [hint for hint in (error.hint, here) if hint]
    return Unreachable(error.message, hint="; ".join(hints))


def _where_else(error: ModelNotFound, reference: Reference, store: Store) -> str | None:
    """Say what else the words may have meant: a model of Ollama's registry, or one that is here."""
    hints = [error.hint] if error.hint else []
    if reference.source == "hub" and reference.text.startswith(reference.repo) and not reference.wanted:
        hints.append(f"on Ollama's registry it would be ollama.com/{reference.text}")
    if near := store.nearest(reference.text):
        hints.append(f"on this machine: {', '.join(near)}")
    return "; ".join(hints) or None
