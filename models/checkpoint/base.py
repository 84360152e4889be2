"""What every checkpoint offers, whatever its file format."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from ...errors import MissingTensor

if TYPE_CHECKING:
    from torch import Tensor

    from ...quant.qtensor import QTensor


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor as its file describes it; shape has the outermost dimension first, as in torch."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def num_weights(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


class Checkpoint(ABC):
    """One lazy view of a model's files: opening reads only headers, `load` maps a tensor's pages."""

    format: Literal["gguf", "safetensors"]
    path: Path

    @property
    @abstractmethod
    def architecture(self) -> str:
        """The file's own word for its architecture (GGUF) or model type (safetensors)."""

    @property
    @abstractmethod
    def metadata(self) -> Mapping[str, object]:
        """GGUF's key-value pairs; empty for safetensors."""

    @property
    @abstractmethod
    def config(self) -> dict[str, object]:
        """The hyper-parameters under Hugging Face names."""

    @property
    @abstractmethod
    def generation(self) -> dict[str, object]:
        """The sampling defaults that the model's makers recommend."""

    @property
    @abstractmethod
    def chat_template(self) -> str | None:
        """The source of the chat template, if the files bring one."""

    @property
    @abstractmethod
    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor's description by name, in file order."""

    @abstractmethod
    def load(self, name: str, device: str = "cpu") -> QTensor:
        """Return a tensor as stored; on the CPU its memory is the mapped file."""

    @abstractmethod
    def forget(self, tensor: Tensor) -> None:
        """Let go of the pages of our files that a tensor lies in, if it does; they come back when they are read."""

    @abstractmethod
    def holds(self, tensor: Tensor) -> bool:
        """Tell whether a tensor lies in the mapping of our files."""

    def trim(self) -> None:
        """Let go of what only loading needs in memory; what is asked for again is read again."""
        return

    @abstractmethod
    def close(self) -> None:
        """Let go of the files; tensors already loaded stay valid."""

    def names(self) -> list[str]:
        """Return the names of all tensors, in file order."""
        return list(self.infos)

    def has(self, name: str) -> bool:
        """Tell whether there is a tensor of this name."""
        return name in self.infos

    def info(self, name: str) -> TensorInfo:
        """Describe a tensor without touching its data; raise MissingTensor if it is absent."""
        try:
            return self.infos[name]
        except KeyError:
            raise MissingTensor(f"{self.path}: there is no tensor {name!r}") from None

    def tensors(self) -> Iterator[tuple[str, QTensor]]:
        """Yield every tensor as stored, in file order."""
        for name in self.infos:
            yield name, self.load(name)

    @property
    def num_parameters(self) -> int:
        """How many weights the checkpoint holds."""
        return sum(info.num_weights for info in self.infos.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(info.nbytes for info in self.infos.values())

    def dtype_counts(self) -> dict[str, int]:
        """Return how many weights are stored in each type, the most frequent first."""
        counts: dict[str, int] = {}
        for info in self.infos.values():
            counts[info.dtype] = counts.get(info.dtype, 0) + info.num_weights
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
