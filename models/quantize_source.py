"""A model that is to be written as GGUF: its metadata and its tensors, from a GGUF file or from a converter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import NotSupported
from ..quant.dtype import DType, dtype
from ..quant.recipe import ModelFacts
from .checkpoint.gguf import GGUFCheckpoint
from .checkpoint.gguf_values import Typed, Value
from .checkpoint.gguf_writer import SPLIT_KEYS

if TYPE_CHECKING:
    from torch import Tensor

    from ..quant.qtensor import QTensor
    from .checkpoint.base import Checkpoint
    from .convert.convert import Converted


def _nothing() -> None:
    """Let go of nothing."""


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """One tensor; `load` returns it as stored, mapped or made, and `release` lets go of what that took.

    part: the file of a split model that it comes from, counted from 0.
    """

    name: str
    kind: DType
    shape: tuple[int, ...]
    load: Callable[[], QTensor]
    part: int = 0
    release: Callable[[], None] = _nothing

    @property
    def dtype(self) -> str:
        """The name of its type."""
        return self.kind.name

    @property
    def nbytes(self) -> int:
        """Bytes as stored."""
        return self.kind.shape_bytes(self.shape)


@dataclass(frozen=True, slots=True)
class Source:
    """All of a model; `forget` lets go of mapped memory that was read."""

    path: Path
    metadata: Mapping[str, Value]
    plain: Mapping[str, object]
    tensors: tuple[SourceTensor, ...]
    forget: Callable[[Tensor], None]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def num_weights(self) -> int:
        """How many numbers the tensors hold."""
        return sum(tensor.nbytes // tensor.kind.nbytes * tensor.kind.block for tensor in self.tensors)

    @property
    def num_parts(self) -> int:
        """How many files the model lies in."""
        return max((tensor.part for tensor in self.tensors), default=0) + 1

    def facts(self, changed: Mapping[str, Value] | None = None) -> ModelFacts:
        """Return what recipes ask; changed: metadata that is to be set."""
        plain = dict(self.plain) | {key: _plain(value) for key, value in (changed or {}).items()}
        architecture = str(plain.get("general.architecture", ""))

        def number(key: str, default: int = 0) -> int:
            value = plain.get(f"{architecture}.{key}")
            if isinstance(value, Sequence) and not isinstance(value, str) and value:
                value = value[0]  # one for each layer; the first stands for all
            return value if isinstance(value, int) else default

        heads = number("attention.head_count")
        return ModelFacts(
            architecture=architecture,
            num_layers=number("block_count"),
            num_experts=number("expert_count"),
            num_heads=heads,
            num_kv_heads=number("attention.head_count_kv", heads),
        )


def checkpoint_source(checkpoint: Checkpoint) -> Source:
    """Take a GGUF model as it is, every key with its type; raise NotSupported for another format."""
    if not isinstance(checkpoint, GGUFCheckpoint):
        raise NotSupported(f"{checkpoint.path}: only GGUF files can be copied into GGUF files")
    metadata = checkpoint.metadata
    return Source(
        path=checkpoint.path,
        metadata={key: metadata.verbatim(key) for key in metadata if key not in SPLIT_KEYS},
        plain=metadata,
        tensors=tuple(
            SourceTensor(
                name=info.name,
                kind=dtype(info.dtype),
                shape=info.shape,
                load=lambda name=info.name: checkpoint.load(name),  # type: ignore[misc]
                part=checkpoint.part_of(info.name),
            )
            for info in checkpoint.infos.values()
        ),
        forget=checkpoint.forget,
    )


def converted_source(path: Path, converted: Converted) -> Source:
    """Take what a converter makes of a folder of safetensors."""
    return Source(
        path=path,
        metadata=converted.metadata,
        plain={key: _plain(value) for key, value in converted.metadata.items()},
        tensors=tuple(
            SourceTensor(tensor.name, tensor.dtype, tensor.shape, tensor.load, release=tensor.release)
            for tensor in converted.tensors
        ),
        forget=lambda tensor: None,
    )


def _plain(value: Value) -> object:
    return value.value if isinstance(value, Typed) else value
