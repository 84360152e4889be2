"""A GGUF file that is yet to be written, read back: whether it says what the checkpoint says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from struct import pack, unpack
from typing import TYPE_CHECKING, Literal

import torch

from ...errors import MissingTensor, NotSupported
from ..checkpoint.base import Checkpoint, TensorInfo
from ..checkpoint.gguf_values import Typed, ValueType
from ..checkpoint.neutral import neutral_config
from ..config import ModelConfig, RopeConfig
from ..layers.rope import Rotary
from .tensors import Source

if TYPE_CHECKING:
    from torch import Tensor

    from ...quant.qtensor import QTensor

# Numbers are stored as float32.
_CLOSE = 1e-5


class Preview(Checkpoint):
    """The file to be, as a checkpoint: its architecture reads it as if it were on the disk."""

    format: Literal["gguf", "safetensors"] = "gguf"

    def __init__(self, path: Path, metadata: Mapping[str, Typed], tensors: Iterable[Source] = ()) -> None:
        self.path = path
        self._metadata = {key: _stored(value) for key, value in metadata.items()}
        self._sources = {source.name: source for source in tensors}

    @property
    def architecture(self) -> str:
        """`general.architecture`."""
        return str(self._metadata["general.architecture"])

    @property
    def metadata(self) -> Mapping[str, object]:
        """The key-value pairs, rounded as they will be."""
        return self._metadata

    @property
    def config(self) -> dict[str, object]:
        """The hyper-parameters, translated from GGUF's keys."""
        return neutral_config(self._metadata)

    @property
    def generation(self) -> dict[str, object]:
        """Nothing: sampling is not looked at here."""
        return {}

    @property
    def chat_template(self) -> str | None:
        """Nothing: no text is rendered here."""
        return None

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor's description by name, in file order."""
        return {
            name: TensorInfo(name, source.dtype.name, source.shape, source.nbytes)
            for name, source in self._sources.items()
        }

    def has(self, name: str) -> bool:
        """Tell whether there is a tensor of this name."""
        return name in self._sources

    def load(self, name: str, device: str = "cpu") -> QTensor:
        """Make a tensor."""
        try:
            return self._sources[name].load().to(device)
        except KeyError:
            raise MissingTensor(f"{self.path}: there is no tensor {name!r}") from None

    def forget(self, tensor: Tensor) -> None:
        """Do nothing: the pages are the checkpoint's."""

    def holds(self, tensor: Tensor) -> bool:
        """Return False: there are no files."""
        return False

    def close(self) -> None:
        """Do nothing: the files are the checkpoint's."""


def check_same(config: ModelConfig, read: ModelConfig, factors: Tensor | None) -> None:
    """Raise NotSupported, naming the first difference, if the file would not say what the checkpoint says.

    read: the configuration as the file's reader understands it. factors: the file's divisors of frequencies.
    """
    for field in fields(ModelConfig):
        name = field.name
        ours, theirs = getattr(config, name), getattr(read, name)
        if name in ("rope", "local_rope"):
            same = _turns_alike(ours, theirs, config.max_positions, factors if name == "rope" else None)
        elif isinstance(ours, float):
            same = math.isclose(ours, theirs, rel_tol=_CLOSE)
        else:
            same = ours == theirs or not _matters(name, config)
        if not same:
            raise NotSupported(
                f"GGUF files of this architecture cannot say the model's {name.replace('_', ' ')}",
                hint="the folder itself can be run",
            )


def _matters(name: str, config: ModelConfig) -> bool:
    """Whether the model makes use of a setting."""
    if name == "sliding_window":
        return any(config.sliding_layers)
    return name != "renormalise_experts" or config.num_experts > 0


def _turns_alike(
    ours: RopeConfig | None, theirs: RopeConfig | None, context: int, factors: Tensor | None
) -> bool:
    """Whether two rotary embeddings have the same angles, within the trained context and at the longest."""
    if ours is None or theirs is None:
        return ours is theirs
    cpu = torch.device("cpu")
    for length in (min(ours.original_context or context, context), context):
        here, there = Rotary(ours, length, cpu), Rotary(theirs, length, cpu, factors)
        same_scale = math.isclose(here.scale, there.scale, rel_tol=_CLOSE)
        if not same_scale or not torch.allclose(here.frequencies, there.frequencies, rtol=_CLOSE, atol=0):
            return False
    return True


def _stored(value: Typed) -> object:
    """Return a value as it comes back from the file."""
    if value.kind is ValueType.FLOAT32:
        (rounded,) = unpack("<f", pack("<f", value.value))
        return rounded
    return value.value
