"""The demo model that comes inside the package and answers to a name without being in the store."""

from __future__ import annotations

from pathlib import Path

from .disk import disk_errors, hash_file
from .manifest import CONFIG, MODEL, Layer, Manifest, ModelConfig, digest_of
from .name import ModelName


class Bundled:
    """One GGUF file of the package under a model name."""

    def __init__(self, name: ModelName, path: Path) -> None:
        self.name = name
        self.path = path
        self._known: tuple[tuple[int, int], str] | None = None

    def exists(self) -> bool:
        """Tell whether the package was installed with the file."""
        return self.path.is_file()

    def modified(self) -> float:
        """Return the file's time of change, in seconds since the epoch."""
        with disk_errors(f"read {self.path}"):
            return self.path.stat().st_mtime

    def manifest(self) -> Manifest:
        """Describe the file as a stored model; hashes it once (a few milliseconds)."""
        config = self.config()
        layer = Layer(MODEL, self._digest(), self.path.stat().st_size)
        return Manifest(Layer(CONFIG, digest_of(config), len(config)), (layer,))

    def config(self) -> bytes:
        """Return the config blob; it names the format only, since the file knows the rest."""
        return ModelConfig(model_format="gguf").to_bytes()

    def holds(self, digest: str) -> bool:
        """Tell whether `digest` is the file's."""
        return self.exists() and self._digest() == digest

    def _digest(self) -> str:
        with disk_errors(f"read {self.path}"):
            found = self.path.stat()
            version = (found.st_size, found.st_mtime_ns)
            if self._known is None or self._known[0] != version:
                self._known = (version, hash_file(self.path)[0])
            return self._known[1]


POCKET = Bundled(
    ModelName.parse("pocket"),
    Path(__file__).parents[1] / "models" / "pocket" / "pocket-q8_0.gguf",
)
