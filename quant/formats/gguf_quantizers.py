"""The formats that the gguf package quantizes, on the CPU; it knows no importance."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import DType, dtype

NAMES = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "tq1_0", "tq2_0", "mxfp4")


def _register(kind: DType) -> None:
    @kind.quantizer
    def quantize(weights: Tensor, importance: Tensor | None) -> Tensor:
        """Return the blocks, back on the weights' device.  # float32 [rows, cols] -> uint8 [rows, row bytes]"""
        import gguf

        blocks = gguf.quants.quantize(weights.cpu().numpy(), gguf.GGMLQuantizationType[kind.name.upper()])
        return torch.from_numpy(blocks).to(weights.device)


for _name in NAMES:
    _register(dtype(_name))
