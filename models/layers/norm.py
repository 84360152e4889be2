"""Root-mean-square normalisation, plain and with Gemma's offset."""

from __future__ import annotations

from torch import Tensor

from ...kernels.cpu.program import Place, Recorder
from ...kernels.dispatch import find
from ..weights import Weights


class RMSNorm:
    """Scale the last axis to unit root mean square, then by a learnt weight [size]."""

    offset = 0.0

    def __init__(self, weights: Weights, name: str, size: int, eps: float) -> None:
        self.weight = weights.tensor(f"{name}.weight", (size,))
        if self.offset and not weights.is_gguf:
            self.weight = self.weight + self.offset
        self.eps = eps
        self._rms_norm = find("rms_norm", device=weights.device.type)

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise x [..., size]; returns float32."""
        normed: Tensor = self._rms_norm(x, self.weight, self.eps)
        return normed

    def record(self, tape: Recorder, x: Place) -> Place:
        """Write the same down as a native program; returns the place of the result."""
        normed = tape.buffer("branch", x.width)
        tape.norm(x, normed, self.weight, self.eps)
        return normed


class OffsetRMSNorm(RMSNorm):
    """Gemma's norm, whose checkpoints store weight - 1; GGUF's converter has already added the 1."""

    offset = 1.0
