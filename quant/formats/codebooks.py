"""The formats with large code books or rare layouts: the gguf package unpacks them, on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dtype import DType, dtype

NAMES = (
    "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s",
    "tq1_0", "tq2_0", "nvfp4",
)  # fmt: skip


def _register(kind: DType) -> None:
    @kind.dequantizer
    def dequantize(blocks: Tensor) -> Tensor:
        """Return the weights, back on the blocks' device.  # [n, nbytes] uint8 -> [n, block]"""
        import gguf
        import numpy

        packed = blocks.cpu().contiguous().numpy()
        with numpy.errstate(all="ignore"):  # a damaged scale may overflow; that is the file's fault
            weights = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind.name.upper()])
        return torch.from_numpy(weights).to(blocks.device)


for _name in NAMES:
    _register(dtype(_name))
