"""Matrices that bitsandbytes quantized, as `transformers` saves them: several tensors that are read as one.

x.weight   uint8 [n/2, 1] (or any type of as many bytes), codes of four bits
x.weight.absmax                            float32, or uint8 where scales are nested
x.weight.nested_absmax, .nested_quant_map  float32, what nested scales stand for
x.weight.quant_map                         float32 [16], the levels
x.weight.quant_state.bitsandbytes__nf4     JSON as uint8: shape, block sizes, offset; or …__fp4

x.weight   int8 [rows, cols]
x.SCB      float32 [rows], the largest magnitudes
x.weight_format                            uint8, 0: rows one after another; absent in older files
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import CorruptFile, NotSupported
from ...quant.dtype import dtype
from .base import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

    from ...quant.qtensor import QTensor

_STATE = ".quant_state.bitsandbytes__"
_MAX_STATE = 1 << 16
_NESTED_BLOCK = 256
_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A matrix made of the tensors `parts`; `beside` are all tensors that belong to it but its own.

    offset: what is added to nested scales, None where they are not nested.
    """

    info: TensorInfo
    parts: tuple[str, ...]
    beside: tuple[str, ...]
    offset: float | None = None

    def assemble(self, load: Callable[[str], Tensor]) -> QTensor:
        """Put the matrix together; load: returns a tensor as it is stored."""
        import torch

        from ...quant.qtensor import QTensor

        kind, shape = dtype(self.info.dtype), self.info.shape
        codes, *scales = map(load, self.parts)
        if kind.name != "int8":
            codes = codes.view(torch.uint8).reshape(shape[0], shape[1] // 2)
        if self.offset is not None:
            scales.append(torch.tensor(self.offset, device=codes.device))
        return QTensor((codes, *scales), kind, shape)


def find_packed(infos: Mapping[str, TensorInfo], read: Callable[[str], bytes]) -> list[PackedMatrix]:
    """Return the matrices that bitsandbytes quantized; read: returns the bytes of a small tensor.

    Raises CorruptFile where tensors are missing or do not fit together, NotSupported for layouts of the past.
    """
    found = []
    for name in infos:
        if _STATE in name:
            found.append(_four_bits(infos, name, read))
        elif name.endswith(".SCB"):
            found.append(_int8(infos, name, read))
    return found


def is_described_in_data(name: str) -> bool:
    """Tell whether a tensor's own bytes say what others are: `find_packed` reads them."""
    return _STATE in name or name.endswith(".weight_format")


def _four_bits(infos: Mapping[str, TensorInfo], name: str, read: Callable[[str], bytes]) -> PackedMatrix:
    matrix, _, kind = name.partition(_STATE)
    if kind not in ("nf4", "fp4"):
        raise NotSupported(f"the tensor '{matrix}' is of bitsandbytes' unknown type '{kind}'")
    state = _state(name, infos[name], read)
    rows, cols = _shape(matrix, state)
    size, nested = state.get("blocksize"), "nested_offset" in state
    if size not in _BLOCKS:
        raise CorruptFile(f"the tensor '{name}' says that {size!r} weights share a scale")
    num_blocks = -(-rows * cols // size)
    sizes = {matrix: rows * cols // 2, f"{matrix}.absmax": num_blocks * (1 if nested else 4)}
    if nested:
        if state.get("nested_blocksize") != _NESTED_BLOCK:
            raise NotSupported(
                f"the scales of '{matrix}' are nested in blocks of {state.get('nested_blocksize')}"
            )
        sizes[f"{matrix}.nested_absmax"] = 4 * -(-num_blocks // _NESTED_BLOCK)
        sizes[f"{matrix}.nested_quant_map"] = 4 * 256
    _check(infos, sizes, "uint8" if nested else "float32")
    known = (*sizes, f"{matrix}.quant_map", name)
    return PackedMatrix(
        TensorInfo(matrix, kind, (rows, cols), sum(sizes.values())),
        tuple(sizes),
        tuple(part for part in known if part in infos and part != matrix),
        _offset(name, state) if nested else None,
    )


def _int8(infos: Mapping[str, TensorInfo], name: str, read: Callable[[str], bytes]) -> PackedMatrix:
    prefix = name.removesuffix(".SCB")
    matrix, layout = f"{prefix}.weight", f"{prefix}.weight_format"
    info = infos.get(matrix)
    if info is None or info.dtype != "i8" or len(info.shape) != 2:
        raise CorruptFile(f"the tensor '{name}' has no matrix of eight bits beside it")
    if layout in infos and any(read(layout)):
        raise NotSupported(
            f"the tensor '{matrix}' is laid out for one kind of GPU", hint="take the original model"
        )
    _check(infos, {name: 4 * info.shape[0]}, "float32")
    return PackedMatrix(
        TensorInfo(matrix, "int8", info.shape, info.nbytes + infos[name].nbytes),
        (matrix, name),
        tuple(part for part in (name, layout) if part in infos),
    )


def _state(name: str, info: TensorInfo, read: Callable[[str], bytes]) -> dict[str, object]:
    try:
        state = json.loads(read(name)) if info.nbytes <= _MAX_STATE else None
    except (ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise CorruptFile(f"the tensor '{name}' does not describe a matrix")
    return state


def _shape(matrix: str, state: Mapping[str, object]) -> tuple[int, int]:
    shape = state.get("shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(n) is int and n > 0 for n in shape):
        raise CorruptFile(f"the tensor '{matrix}' is no matrix: its shape is {shape!r:.80}")
    if shape[1] % 2:
        raise NotSupported(f"the tensor '{matrix}' has rows of an odd length, {shape[1]}, in four bits")
    return shape[0], shape[1]


def _offset(name: str, state: Mapping[str, object]) -> float:
    offset = state["nested_offset"]
    if not isinstance(offset, int | float) or not math.isfinite(offset):
        raise CorruptFile(f"the tensor '{name}' gives {offset!r:.80} as a mean")
    return float(offset)


def _check(infos: Mapping[str, TensorInfo], sizes: Mapping[str, int], scales: str) -> None:
    """Raise CorruptFile unless all tensors are there, of the bytes and (for scales) the type that they must have."""
    kinds = {
        "absmax": "u8" if scales == "uint8" else "f32",
        "nested_absmax": "f32",
        "nested_quant_map": "f32",
    }
    kinds["SCB"] = "f32"
    for name, nbytes in sizes.items():
        info = infos.get(name)
        if info is None:
            raise CorruptFile(f"the tensor '{name}' is missing, without which others cannot be read")
        kind = kinds.get(name.rpartition(".")[2])
        if info.nbytes != nbytes or (kind is not None and info.dtype != kind):
            raise CorruptFile(f"the tensor '{name}' holds {info.nbytes} bytes of {info.dtype}, not {nbytes}")
