"""A checkpoint that is another one but for what a subclass changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .base import Checkpoint, TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

    from ...quant.qtensor import QTensor


class View(Checkpoint):
    """Another checkpoint, `inner`, under the same path; closing the view closes it."""

    def __init__(self, inner: Checkpoint) -> None:
        self.inner = inner
        self.path = inner.path
        self.format = inner.format

    @property
    def architecture(self) -> str:
        """The inner checkpoint's."""
        return self.inner.architecture

    @property
    def metadata(self) -> Mapping[str, object]:
        """The inner checkpoint's."""
        return self.inner.metadata

    @property
    def config(self) -> dict[str, object]:
        """The inner checkpoint's."""
        return self.inner.config

    @property
    def generation(self) -> dict[str, object]:
        """The inner checkpoint's."""
        return self.inner.generation

    @property
    def chat_template(self) -> str | None:
        """The inner checkpoint's."""
        return self.inner.chat_template

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """The inner checkpoint's."""
        return self.inner.infos

    def load(self, name: str, device: str = "cpu") -> QTensor:
        """Return a tensor of the inner checkpoint."""
        return self.inner.load(name, device)

    def forget(self, tensor: Tensor) -> None:
        """Let go of the inner checkpoint's pages."""
        self.inner.forget(tensor)

    def holds(self, tensor: Tensor) -> bool:
        """Tell whether a tensor lies in the inner checkpoint's files."""
        return self.inner.holds(tensor)

    def close(self) -> None:
        """Close the inner checkpoint."""
        self.inner.close()
