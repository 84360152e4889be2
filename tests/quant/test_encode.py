"""Making weights of every type: shapes, floats, errors, and the quantizers in torch against the gguf package."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
import weight_rows
from gguf_files import random_blocks
from mull.errors import CorruptFile, NotSupported, ShapeMismatch
from mull.kernels.cpu import native
from mull.quant.dtype import dtype, find_quantizer
from mull.quant.encode import encode
from mull.quant.qtensor import QTensor, from_bytes

# Types whose blocks follow from the weights alone, without a search, and the signal-to-noise ratio, in dB, that
# gaussian weights keep in the others, less half a dB.
EXACT = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "mxfp4", "tq1_0", "tq2_0")
SEARCHED = {"q2_k": 11.4, "q3_k": 16.5, "q4_k": 22.1, "q5_k": 28.3, "q6_k": 34.6}
# Rows on which the gguf package does what ggml does: it loses signs of 0 and divides by subnormal numbers.
KINDS = [
    kind
    for kind in (*weight_rows.natural(1, 256), *weight_rows.extreme(1, 256))
    if kind not in ("minus zeros", "mixed zeros", "denormal")
]
BIT_EQUAL = {"f16": torch.float16, "bf16": torch.bfloat16}


def plain(values: torch.Tensor, name: str = "f32") -> QTensor:
    kinds = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    return QTensor((values.to(kinds[name]),), dtype(name), tuple(values.shape))


def noise_ratio(values: torch.Tensor, made: QTensor) -> float:
    """Return the signal-to-noise ratio in dB."""
    left = made.dequantize(torch.float32).double() - values.double()
    return float(10 * (values.double().square().sum() / left.square().sum()).log10())


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("kind", KINDS)
def test_types_without_a_search_equal_the_gguf_package(name, kind):
    values = {**weight_rows.natural(3, 768), **weight_rows.extreme(3, 768)}[kind]
    with np.errstate(all="ignore"):
        expected = gguf.quants.quantize(values.numpy(), gguf.GGMLQuantizationType[name.upper()])
    np.testing.assert_array_equal(encode(plain(values), dtype(name), isa=None).parts[0].numpy(), expected)


@pytest.mark.parametrize("name", SEARCHED)
def test_searched_types_keep_what_their_bits_allow(name):
    values = weight_rows.natural(16, 1024)["gaussian"]
    assert noise_ratio(values, encode(plain(values), dtype(name), isa=None)) > SEARCHED[name]


@pytest.mark.parametrize("name", [*SEARCHED, "q4_0", "q4_1", "q5_0", "q5_1"])
def test_importance_moves_the_error_to_where_it_matters_less(name):
    values, importance = weight_rows.natural(16, 1024)["gaussian"], weight_rows.importance(1024)

    def error(made: QTensor) -> float:
        left = made.dequantize(torch.float32) - values
        return float((importance * left.square()).sum())

    weighed = encode(plain(values), dtype(name), importance, isa=None)
    assert error(weighed) < 0.97 * error(encode(plain(values), dtype(name), isa=None))


@pytest.mark.parametrize("name", [*EXACT, *SEARCHED])
@pytest.mark.parametrize("kind", weight_rows.extreme(1, 256))
def test_extreme_rows_stay_what_they_are(name, kind):
    values = weight_rows.extreme(3, 768)[kind]
    for importance in (None, weight_rows.importance(768), torch.zeros(768)):
        found = encode(plain(values), dtype(name), importance, isa=None).dequantize(torch.float32)
        assert torch.isfinite(found).all()
        # Below what scales of binary16 can say, a weight may become their smallest step.
        assert (found - values).abs().amax() <= 2 * values.abs().amax()


@pytest.mark.parametrize("shape", [(0, 64), (1, 64), (7, 64), (3, 5, 64), (64,)], ids=str)
@pytest.mark.parametrize("name", ["q8_0", "q5_1", "f16", "bf16", "f32"])
def test_shapes(name, shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    made = encode(plain(values), dtype(name))
    assert made.shape == shape
    assert made.dtype == dtype(name)
    assert made.nbytes == dtype(name).shape_bytes(shape)
    assert made.dequantize(torch.float32).shape == shape


@pytest.mark.parametrize("name", ["q4_k", "q8_0", "bf16"])
def test_rows_are_those_of_the_whole(name):
    values = torch.randn((4, 5, 512), generator=torch.Generator().manual_seed(2))
    importance = torch.stack([weight_rows.importance(512, seed) for seed in range(4)])
    whole = encode(plain(values), dtype(name), importance).dequantize(torch.float32).view(20, 512)
    for first, last in ((0, 20), (3, 11), (4, 5), (19, 20), (7, 7)):
        part = encode(plain(values), dtype(name), importance, rows=slice(first, last))
        assert part.shape == (last - first, 512)
        assert torch.equal(part.dequantize(torch.float32), whole[first:last])


def test_every_matrix_of_a_stack_has_its_importance():
    values = torch.randn((3, 8, 256), generator=torch.Generator().manual_seed(3))
    importance = torch.stack([weight_rows.importance(256, seed) for seed in range(3)])
    whole = encode(plain(values), dtype("q4_k"), importance).parts[0].view(3, 8, -1)
    for i in range(3):
        assert torch.equal(whole[i], encode(plain(values[i]), dtype("q4_k"), importance[i]).parts[0])
    shared = encode(plain(values), dtype("q4_k"), importance[:1]).parts[0].view(3, 8, -1)
    assert torch.equal(shared[0], whole[0])
    assert not torch.equal(shared[1], whole[1])


@pytest.mark.parametrize("name", BIT_EQUAL)
def test_floats_are_rounded_to_nearest_even(name):
    bits = torch.randint(-(2**31), 2**31 - 1, (64, 256), generator=torch.Generator().manual_seed(4))
    values = bits.to(torch.int32).view(torch.float32)
    values = torch.where(values.isfinite() & (values.abs() < 60000), values, 1.5)
    ties = torch.tensor(
        [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11, 2**-25, 3 * 2**-25, -0.0, 1e-40]
    )
    values[0, :8] = ties
    made = encode(plain(values), dtype(name)).parts[0]
    kind = gguf.GGMLQuantizationType[name.upper()]
    expected = gguf.quants.quantize(values.numpy(), kind)
    np.testing.assert_array_equal(made.view(torch.int16).numpy(), expected.view(np.int16))


@pytest.mark.parametrize("source", ["f16", "bf16", "q8_0", "q4_k", "iq4_xs", "tq1_0", "iq2_xxs"])
@pytest.mark.parametrize("name", ["q8_0", "q3_k", "f16"])
def test_whatever_can_be_read_can_be_requantized(source, name):
    if source in ("f16", "bf16"):
        weight = plain(weight_rows.natural(4, 512)["gaussian"], source)
    else:
        blocks = torch.from_numpy(random_blocks(source, 8 * 256 // dtype(source).block, seed=5).copy())
        weight = from_bytes(blocks.view(torch.uint8).flatten(), dtype(source), (4, 512))
    values = weight.dequantize(torch.float32)
    assert torch.equal(encode(weight, dtype(name)).parts[0], encode(plain(values), dtype(name)).parts[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["q8_0", "q4_k", "f16", "f32"])
def test_weights_that_are_not_finite_are_told(name, value):
    for at in (0, 37, 511):
        for isa in {native.BEST, None}:
            values = torch.ones(3, 512)
            values[1, at] = value
            with pytest.raises(CorruptFile, match="not finite"):
                encode(plain(values), dtype(name), isa=isa)


def test_weights_too_large_for_the_type_are_told():
    for name, size in (("f16", 7e4), ("q8_0", 1e8), ("q4_k", 1e9), ("mxfp4", 3.4028234e38)):
        for isa in {native.BEST, None}:
            with pytest.raises(CorruptFile, match="not finite"):
                encode(plain(torch.full((2, 256), size)), dtype(name), isa=isa)


def test_what_does_not_fit_is_told():
    weight = plain(torch.ones(2, 100))
    with pytest.raises(ShapeMismatch, match="blocks of 32"):
        encode(weight, dtype("q8_0"))
    with pytest.raises(ShapeMismatch, match="importance"):
        encode(plain(torch.ones(2, 64)), dtype("q8_0"), torch.ones(32))
    with pytest.raises(ShapeMismatch, match="importance"):
        encode(plain(torch.ones(2, 4, 64)), dtype("q8_0"), torch.ones(3, 64))
    with pytest.raises(CorruptFile, match="importance"):
        encode(plain(torch.ones(2, 64)), dtype("q4_0"), torch.full((64,), float("nan")))
    with pytest.raises(NotSupported, match="i32"):
        encode(weight, dtype("i32"))
    with pytest.raises(NotSupported, match="q8_1"):
        find_quantizer(dtype("q8_1"))
