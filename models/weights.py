"""A checkpoint's tensors under the names that architectures use, with a record of which were asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import MissingTensor, NotSupported, ShapeMismatch, UnexpectedTensor
from ..quant.linear import Embedding, Linear, Packer
from ..quant.qtensor import QTensor
from .checkpoint.base import Checkpoint

_WHOLE_NUMBERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bool")


@dataclass(slots=True)
class Source:
    """One checkpoint being loaded: where to, in which type, and what has been used so far.

    hold, packer: how matrices are kept (quant/linear.py).
    progress: called with the bytes of each tensor as it is read.
    matrices: what was loaded to multiply with, by our names; experts under one name, in order.
    """

    checkpoint: Checkpoint
    translate: Callable[[str], str]
    dtype: torch.dtype
    device: torch.device
    hold: bool = True
    packer: Packer | None = None
    progress: Callable[[int], None] | None = None
    used: set[str] = field(default_factory=set)
    matrices: dict[str, list[Linear]] = field(default_factory=dict)


class Weights:
    """A view of a Source under a prefix: `scope("self_attn").linear("q_proj", 64, 32)`."""

    def __init__(self, source: Source, prefix: str = "") -> None:
        self.source = source
        self.prefix = prefix

    @property
    def device(self) -> torch.device:
        """Where tensors are loaded to."""
        return self.source.device

    @property
    def is_gguf(self) -> bool:
        """Whether the tensors come from a GGUF file, whose converter changed some of them."""
        return self.source.checkpoint.format == "gguf"

    def scope(self, name: str) -> Weights:
        """Return the view below `name`."""
        return Weights(self.source, f"{self.prefix}{name}.")

    def has(self, name: str) -> bool:
        """Say whether the checkpoint holds this tensor."""
        return self.source.checkpoint.has(self._file_name(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without loading it."""
        return self.source.checkpoint.info(self._file_name(name)).shape

    def stored(self, name: str, shape: Sequence[int] | None = None) -> QTensor:
        """Load a tensor as it is stored; raises MissingTensor, and ShapeMismatch unless it has `shape`."""
        checkpoint, file_name = self.source.checkpoint, self._file_name(name)
        if not checkpoint.has(file_name):
            raise MissingTensor(f"{checkpoint.path.name} lacks the tensor '{file_name}'")
        info = checkpoint.info(file_name)
        if shape is not None and info.shape != tuple(shape):
            raise ShapeMismatch(
                f"the tensor '{file_name}' has the shape {list(info.shape)}; the configuration asks for {list(shape)}"
            )
        if info.dtype in _WHOLE_NUMBERS:
            raise NotSupported(
                f"the tensor '{file_name}' holds whole numbers ({info.dtype}), not weights",
                hint="the model may be quantized in a way that cannot be read yet",
            )
        self.source.used.add(file_name)
        tensor = checkpoint.load(file_name, str(self.device))
        if self.source.progress is not None:
            self.source.progress(info.nbytes)
        return tensor

    def tensor(self, name: str, shape: Sequence[int] | None = None) -> Tensor:
        """Load a small tensor (norms, biases, factors) as float32, into memory of its own."""
        return self.stored(name, shape).dequantize(torch.float32).clone()

    def linear(self, name: str, num_out: int, num_in: int, group: str | None = None) -> Linear:
        """Load the matrix `name`.weight [num_out, num_in], and `name`.bias if there is one.

        group: the name under which several matrices are counted as one.
        """
        weight = self.stored(f"{name}.weight", (num_out, num_in))
        bias = self.tensor(f"{name}.bias", (num_out,)) if self.has(f"{name}.bias") else None
        return self.as_linear(group or name, weight, bias)

    def as_linear(self, name: str, weight: QTensor, bias: Tensor | None = None) -> Linear:
        """Put a loaded matrix [out, in] to use."""
        source = self.source
        linear = Linear(weight, bias, source.dtype, hold=source.hold, packer=source.packer)
        source.matrices.setdefault(self.prefix + name, []).append(linear)
        return linear

    def experts(self, name: str, count: int, num_out: int, num_in: int) -> list[Linear]:
        """Load one matrix per expert: `experts.{name}` stacked [count, out, in], or `experts.{i}.{name}` apart."""
        group = f"experts.{name}"
        if not self.has(f"{group}.weight"):
            return [self.linear(f"experts.{i}.{name}", num_out, num_in, group) for i in range(count)]
        stacked = self.stored(f"{group}.weight", (count, num_out, num_in))
        return [self.as_linear(group, stacked.at(index)) for index in range(count)]

    def embedding(self, name: str, rows: int, columns: int) -> Embedding:
        """Load the table `name`.weight [rows, columns], of which rows are read as they are asked for."""
        table = self.stored(f"{name}.weight", (rows, columns))
        return Embedding(table, is_mapped=self.source.checkpoint.holds(table.parts[0]))

    def check_all_used(self, ignored: Iterable[str] = ()) -> None:
        """Raise UnexpectedTensor for tensors that nothing asked for, unless their names hold one of `ignored`."""
        left = [
            name
            for name in self.source.checkpoint.names()
            if name not in self.source.used and not any(part in name for part in ignored)
        ]
        if left:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            raise UnexpectedTensor(
                f"{self.source.checkpoint.path.name} holds tensors that its architecture has no use for: "
                f"{', '.join(left[:3])}{more}",
                hint="the file may be of a newer variant of this architecture",
            )

    def _file_name(self, name: str) -> str:
        return self.source.translate(self.prefix + name)
