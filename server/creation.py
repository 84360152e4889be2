"""Makes a model that a request describes, from stored blobs or another model; tells each step in Ollama's words."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InvalidRequest
from ..registry.create import Making, find_weights, make
from ..registry.incoming import incoming
from ..registry.manifest import Manifest
from ..registry.modelfile import Modelfile
from ..registry.name import ModelName
from ..registry.store import Store
from .facts import check_modelfile, inspect
from .quantizing import Quantizing

Report = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True, slots=True)
class Order:
    """A model to be made.

    files: names, and the digests of the blobs that get them; quantize: the type that the weights are written in.
    """

    name: ModelName
    modelfile: Modelfile
    files: Mapping[str, str]
    quantize: str | None = None


def fulfil(order: Order, store: Store, report: Report) -> None:
    """Make the model; raises a MullError, and then nothing has changed."""
    check_modelfile(order.modelfile)
    for name, digest in order.files.items():
        if not store.blob_path(digest).is_file():
            raise InvalidRequest(f"blob {digest} for {name} was not uploaded", field="files")
    known = {layer.digest for entry in store.list() for layer in entry.manifest.layers}
    progress = _Progress(report)
    with incoming(store.root) as folder:
        for name, digest in order.files.items():
            _link(store.blob_path(digest), folder / name)
        if any(name.endswith(".gguf") for name in order.files):
            report({"status": "parsing GGUF"})
        making = Making(folder, inspect, progress.copying)
        if order.quantize:
            quantizing = _checked(order.quantize)
            source = find_weights(store, order.modelfile, making)
            inspect(source)  # what cannot be run is refused before it is written
            making = replace(making, weights=quantizing.write(source, folder, progress.tell))
        manifest = make(store, order.name, order.modelfile, making)
    _tell_layers(manifest, known, report)


def _tell_layers(manifest: Manifest, known: set[str], report: Report) -> None:
    for layer in manifest.layers:
        report(
            {
                "status": f"{'using existing' if layer.digest in known else 'creating new'} layer {layer.digest}"
            }
        )
    report({"status": "writing manifest"})
    report({"status": "success"})


def _link(blob: Path, path: Path) -> None:
    """Give a blob a name."""
    try:
        os.link(blob, path)
    except OSError:  # another disk, or a file system without links
        path.symlink_to(blob)


def _checked(kind: str) -> Quantizing:
    """Return how weights are quantized; raises InvalidRequest for a type that is none, in Ollama's words."""
    quantizing = Quantizing(kind)
    try:
        quantizing.check()
    except InvalidRequest as error:
        raise InvalidRequest(
            f"unsupported quantization type {kind}", field="quantize", hint=error.hint
        ) from error
    return quantizing


class _Progress:
    """Tells how far a file is, a hundred times at most."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._last: tuple[str, int] | None = None

    def copying(self, file: str, done: int, total: int) -> None:
        """Tell how much of a file is in the store."""
        self.tell(f"copying file {file}", done, total)

    def tell(self, status: str, done: int, total: int) -> None:
        """Tell of some work, if there is news."""
        now = (status, done * 100 // max(1, total))
        if now != self._last:
            self._last = now
            self._report({"status": status, "digest": "0" * 19, "total": total, "completed": done})
