"""A checkpoint some of whose matrices are rounded to other types, but kept as floats: what the rounding alone does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ..errors import MullError
from ..quant.dtype import DType, dtype
from ..quant.encode import FLOATS, encode
from ..quant.formats.floats import TORCH_DTYPES
from ..quant.qtensor import QTensor
from .checkpoint.base import Checkpoint
from .checkpoint.view import View

if TYPE_CHECKING:
    from .quantize import Importance


class Probe(View):
    """Another checkpoint with the matrices in `kinds` rounded; the inner one stays open when this is closed."""

    def __init__(
        self, checkpoint: Checkpoint, kinds: Mapping[str, DType], importance: Importance | None
    ) -> None:
        super().__init__(checkpoint)
        self._kinds = kinds
        self._importance = importance

    def load(self, name: str, device: str = "cpu") -> QTensor:
        """Return a tensor as stored, or rounded and back; raises as `encode` does, with the tensor's name."""
        kind = self._kinds.get(name)
        stored = self.inner.load(name)
        if kind is None or kind is stored.dtype:
            return stored.to(device)
        table = None if self._importance is None else self._importance.for_tensor(name, stored.shape)
        try:
            rounded = encode(stored, kind, None if table is None else torch.from_numpy(table))
        except MullError as error:
            raise type(error)(f"{self.path}: {name}: {error.message}", hint=error.hint) from error
        finally:
            self.inner.forget(stored.parts[0])
        # The type that it had, for then it is multiplied as before.
        kept = stored.dtype if stored.dtype.name in FLOATS else dtype("f16")
        floats = rounded.dequantize(TORCH_DTYPES[kept.name])
        return QTensor((floats.to(device),), kept, stored.shape)

    def close(self) -> None:
        """Do nothing: there will be other probes."""
