"""A checkpoint as it would be in another file type, by llama.cpp's recipes: descriptions only, no weights."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import NotSupported
from ..quant.file_types import FILE_TYPES, FileType
from ..quant.mixture import MixtureOptions, choose_types
from ..quant.qtensor import QTensor
from ..quant.recipe import ModelFacts
from .checkpoint.base import Checkpoint, TensorInfo
from .checkpoint.view import View
from .config import ModelConfig

_CLOSE = 0.05


class Retyped(View):
    """Another checkpoint's tensors, described in the types of one file type."""

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig, kind: FileType) -> None:
        super().__init__(checkpoint)
        facts = ModelFacts(
            architecture=checkpoint.architecture,
            num_layers=config.num_layers,
            num_experts=config.num_experts,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
        )
        infos = list(checkpoint.infos.values())
        options = MixtureOptions(kind, has_imatrix=True)
        self._infos = {
            choice.name: TensorInfo(choice.name, choice.target.name, choice.shape, choice.nbytes)
            for choice in choose_types(infos, facts, options)
        }

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor's description in the other types."""
        return self._infos

    def load(self, name: str, device: str = "cpu") -> QTensor:
        """Raise NotSupported: there is nothing to load."""
        raise NotSupported(f"'{name}' is only described, and not there")


class Siblings:
    """The files that a repository offers beside the one whose header is known, as far as names and sizes tell."""

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig) -> None:
        """checkpoint: of a GGUF file."""
        self._checkpoint, self._config = checkpoint, config
        self._made: dict[str, Retyped] = {}

    def like(self, quant: str, size: int) -> Checkpoint:
        """Return what a file of this quantization and about this size holds: by its name, else the nearest in size."""
        named = FILE_TYPES.get(quant.removeprefix("UD-"))
        if named is not None:
            made = self._of(named)
            if abs(made.nbytes - size) <= _CLOSE * size:
                return made
        return min(map(self._of, FILE_TYPES.values()), key=lambda made: abs(made.nbytes - size))

    def _of(self, kind: FileType) -> Retyped:
        if kind.name not in self._made:
            self._made[kind.name] = Retyped(self._checkpoint, self._config, kind)
        return self._made[kind.name]
