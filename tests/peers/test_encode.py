"""Our quantizers against ggml's: the same bytes where it does not search, no more error where it does."""

from __future__ import annotations

import pytest
import torch
import weight_rows
from mull.kernels.cpu import native
from mull.quant.dtype import DType, dtype
from mull.quant.encode import encode
from mull.quant.qtensor import QTensor, dequantize
from peers.ggml import quantize_rows

pytestmark = pytest.mark.peer

EXACT = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "mxfp4", "tq1_0", "tq2_0")
SEARCHED = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k")
SETS = [*native.instruction_sets(), None]
each_set = pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name if isa else "torch")


def made(
    values: torch.Tensor, kind: DType, isa: native.Isa | None, importance: torch.Tensor | None
) -> torch.Tensor:
    weight = QTensor((values,), dtype("f32"), tuple(values.shape))
    return encode(weight, kind, importance, isa=isa).parts[0]


def error(values: torch.Tensor, blocks: torch.Tensor, kind: DType, importance: torch.Tensor | None) -> float:
    left = (dequantize(blocks, kind, torch.float32).double() - values.double()).square()
    return float((left if importance is None else left * importance).sum())


@each_set
@pytest.mark.parametrize("kind", [*weight_rows.natural(1, 256), *weight_rows.extreme(1, 256)])
@pytest.mark.parametrize("name", EXACT)
def test_the_same_bytes(name: str, kind: str, isa: native.Isa | None) -> None:
    """But for MXFP4 of subnormal weights, whose power of two ggml lets wrap around."""
    values = {**weight_rows.natural(16, 1024), **weight_rows.extreme(16, 1024)}[kind]
    if (name, kind) != ("mxfp4", "denormal"):
        assert torch.equal(made(values, dtype(name), isa, None), quantize_rows(values, dtype(name)))


@each_set
@pytest.mark.parametrize("kind", weight_rows.natural(1, 256))
@pytest.mark.parametrize("name", SEARCHED)
def test_no_more_error(name: str, kind: str, isa: native.Isa | None) -> None:
    values = weight_rows.natural(32, 2048)[kind]
    theirs = error(values, quantize_rows(values, dtype(name)), dtype(name), None)
    assert error(values, made(values, dtype(name), isa, None), dtype(name), None) < theirs


@each_set
@pytest.mark.parametrize("kind", weight_rows.natural(1, 256))
@pytest.mark.parametrize("name", [*SEARCHED, "q4_0", "q4_1", "q5_0", "q5_1"])
def test_no_more_error_by_importance(name: str, kind: str, isa: native.Isa | None) -> None:
    values, importance = weight_rows.natural(32, 2048)[kind], weight_rows.importance(2048)
    theirs = error(values, quantize_rows(values, dtype(name), importance), dtype(name), importance)
    bound = 1.005 if name in ("q4_0", "q5_0", "q5_1") else 1
    assert error(values, made(values, dtype(name), isa, importance), dtype(name), importance) < bound * theirs


@each_set
@pytest.mark.parametrize("kind", weight_rows.extreme(1, 256))
@pytest.mark.parametrize("name", SEARCHED)
def test_extreme_rows(name: str, kind: str, isa: native.Isa | None) -> None:
    """Where either is nearly exact, chance decides who is more so."""
    values = weight_rows.extreme(128, 1024)[kind]
    for importance in (None, weight_rows.importance(1024)):
        weights = 1 if importance is None else importance
        theirs = error(values, quantize_rows(values, dtype(name), importance), dtype(name), importance)
        ours = error(values, made(values, dtype(name), isa, importance), dtype(name), importance)
        assert ours <= 1.03 * theirs + 1e-5 * float((values.double().square() * weights).sum())
