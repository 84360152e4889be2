"""What bitsandbytes does for us: rounds matrices to its types, and multiplies with them where it has fast kernels."""

from __future__ import annotations

import logging
import math
import sys
from functools import cache
from types import ModuleType
from typing import Final

import torch
from torch import Tensor

from ..errors import CorruptFile, NotSupported, ShapeMismatch
from .dtype import DType
from .formats.bnb import NESTED_BLOCK, block_size
from .qtensor import QTensor

TYPES: Final = ("nf4", "fp4", "int8")
# Activations beyond this are multiplied in 16 bits: the threshold of LLM.int8().
OUTLIERS: Final = 6.0
# Bytes of a weight at most, scales included.
NBYTES: Final = {"nf4": 0.5625, "fp4": 0.5625, "int8": 1.0}
# Weights of four bits that share a scale, as transformers has it.
BLOCK: Final = 64
# Weights rounded at a time: what the temporaries take.
_CHUNK: Final = 1 << 20
_FLOATS: Final = (torch.float32, torch.bfloat16, torch.float16)


@cache
def library() -> ModuleType:
    """Import bitsandbytes, which takes two seconds; raises NotSupported where it is absent or broken."""
    logger = logging.getLogger("bitsandbytes")
    level, hidden = logger.level, sys.modules.get("kernels")
    logger.setLevel(logging.ERROR)
    # Where the `kernels` package is installed, the import would download code.
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        import bitsandbytes
    except (ImportError, OSError, RuntimeError) as error:
        raise NotSupported(
            f"bitsandbytes cannot be imported: {error}", hint="pip install bitsandbytes"
        ) from None
    finally:
        logger.setLevel(level)
        del sys.modules["kernels"]
        if hidden is not None:
            sys.modules["kernels"] = hidden
    module: ModuleType = bitsandbytes
    return module


def quantize(weight: QTensor, kind: DType) -> QTensor:
    """Return a matrix in one of TYPES, exactly as bitsandbytes rounds it; four bits with nested scales.

    Raises CorruptFile for weights that are not finite or too large, ShapeMismatch for rows of an odd length.
    """
    cols = weight.shape[-1]
    if kind.name != "int8" and cols % 2:
        raise ShapeMismatch(f"rows of {cols} weights cannot be {kind.name}, two in a byte")
    functional = library().functional
    stored = weight.parts[0].reshape(-1, cols)
    # Blocks run on from row to row: a piece ends where one does.
    whole = BLOCK // math.gcd(cols, BLOCK)
    step = max(1, _CHUNK // cols // whole) * whole
    codes, scales = [], []
    for first in range(0, len(stored), step):
        values = stored[first : first + step]
        if kind.name == "int8":
            values = values.half()
        elif values.dtype not in _FLOATS:
            values = values.float()
        if not bool(torch.isfinite(values).all()):
            raise CorruptFile("a weight is not finite", hint="the file is damaged, or of a run that diverged")
        if kind.name == "int8":
            rounded, largest, _ = functional.int8_vectorwise_quant(values)
        else:
            packed, state = functional.quantize_4bit(
                values.contiguous(), blocksize=BLOCK, quant_type=kind.name
            )
            rounded, largest = packed.view(-1, cols // 2), state.absmax
        codes.append(rounded)
        scales.append(largest)
    each = torch.cat(scales)
    if kind.name == "int8":
        return QTensor((torch.cat(codes), each), kind, weight.shape)
    mean = each.mean()
    nested, outer = functional.quantize_blockwise(each - mean, blocksize=NESTED_BLOCK)
    return QTensor((torch.cat(codes), nested, outer.absmax, outer.code, mean), kind, weight.shape)


def serves(name: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether bitsandbytes multiplies fast with matrices of a type on a device, computing in `dtype`.

    On CPUs that is so for four bits in bfloat16, where the processor has AVX512-BF16; otherwise it would unpack the
    matrix at each use, and its int8 is slower than any float.
    """
    if device.type == "cuda":
        return _is_built(cuda=True)
    if device.type != "cpu" or name == "int8" or dtype != torch.bfloat16:
        return False
    return _is_built() and bool(library().functional.has_avx512bf16())


def has_kernel(weight: QTensor, dtype: torch.dtype) -> bool:
    """Tell whether bitsandbytes multiplies fast with this matrix where it lies, computing in `dtype`."""
    if not serves(weight.dtype.name, weight.device, dtype):
        return False
    rows, cols = weight.shape
    # On CPUs 32 rows lie side by side, and their blocks must end together.
    on_gpu = weight.device.type == "cuda"
    return on_gpu or (rows % 32 == 0 and cols % block_size(rows * cols, weight.parts[1].numel()) == 0)


@cache
def _is_built(*, cuda: bool = False) -> bool:
    """Tell whether bitsandbytes can be imported and brings kernels."""
    try:
        built = library().cextension.lib
    except NotSupported:
        return False
    return bool(built.compiled_with_cuda) if cuda else hasattr(built, "has_avx512bf16_cpu")


class Multiplier:
    """A matrix in bitsandbytes' own layer."""

    def __init__(self, weight: QTensor, dtype: torch.dtype) -> None:
        """Take the matrix; dtype: what the layer computes in."""
        self._int8 = weight.dtype.name == "int8"
        layer = _int8_layer(weight) if self._int8 else _four_bit_layer(weight, dtype)
        self._layer = layer.eval().requires_grad_(False)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply x [T, in]; returns [T, out] in the type of x."""
        # LLM.int8() rounds from binary16 only.
        y: Tensor = self._layer(x.half() if self._int8 else x)
        return y.to(x.dtype)


def _four_bit_layer(weight: QTensor, dtype: torch.dtype) -> torch.nn.Module:
    bnb, name = library(), weight.dtype.name
    rows, cols = weight.shape
    codes, absmax, *nested = weight.parts
    table = bnb.functional.get_4bit_type(name, device=codes.device)
    state = bnb.functional.QuantState(
        absmax,
        shape=torch.Size((rows, cols)),
        code=table,
        blocksize=block_size(rows * cols, absmax.numel()),
        quant_type=name,
        dtype=dtype,
    )
    if nested:
        outer, codebook, mean = nested
        state.offset, state.nested = mean, True
        state.state2 = bnb.functional.QuantState(
            outer, code=codebook, blocksize=NESTED_BLOCK, dtype=torch.float32
        )
    with torch.device("meta"):
        layer = bnb.nn.Linear4bit(cols, rows, bias=False, compute_dtype=dtype, quant_type=name)
    layer.weight = bnb.nn.Params4bit(
        codes.reshape(-1, 1), requires_grad=False, quant_state=state, quant_type=name, bnb_quantized=True
    )
    made: torch.nn.Module = layer
    return made


def _int8_layer(weight: QTensor) -> torch.nn.Module:
    nn = library().nn
    rows, cols = weight.shape
    codes, largest = weight.parts
    with torch.device("meta"):
        layer = nn.Linear8bitLt(cols, rows, bias=False, has_fp16_weights=False, threshold=OUTLIERS)
    layer.weight = nn.Int8Params(codes, requires_grad=False, CB=codes, SCB=largest)
    made: torch.nn.Module = layer
    return made
