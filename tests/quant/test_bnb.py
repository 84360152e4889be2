"""bitsandbytes' types: read as it reads them, made as it makes them, and multiplied by its kernels or ours."""

from __future__ import annotations

import sys

import pytest
import torch
from mull.errors import CorruptFile, ShapeMismatch
from mull.kernels.cpu import native
from mull.quant import bnb
from mull.quant.dtype import dtype
from mull.quant.formats.bnb import LEVELS, UNITS, block_size
from mull.quant.linear import Linear, Packer
from mull.quant.qtensor import QTensor

SETS = native.instruction_sets()
each_type = pytest.mark.parametrize("name", bnb.TYPES)
four_bits = pytest.mark.parametrize("name", ["nf4", "fp4"])


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.05


def quantized(name, *shape, seed=0):
    weight = QTensor((random(*shape, seed=seed),), dtype("f32"), shape)
    return bnb.quantize(weight, dtype(name))


def off(got, expected):
    return float((got.float() - expected).norm() / expected.norm())


def reference(name, weight):
    """Return what bitsandbytes reads from its own encoding of a weight."""
    functional = bnb.library().functional
    if name == "int8":
        codes, largest, _ = functional.int8_vectorwise_quant(weight.half())
        return functional.int8_vectorwise_dequant(codes, largest).float()
    codes, state = functional.quantize_4bit(weight, quant_type=name, compress_statistics=True)
    return functional.dequantize_4bit(codes, state)


@each_type
@pytest.mark.parametrize("chunk", [1 << 20, 1 << 10])
def test_weights_are_rounded_and_read_as_bitsandbytes_does(name, chunk, monkeypatch):
    monkeypatch.setattr(bnb, "_CHUNK", chunk)
    weight = random(300, 192)
    weight[3] = 0
    got = bnb.quantize(QTensor((weight,), dtype("f32"), (300, 192)), dtype(name)).dequantize()
    torch.testing.assert_close(got, reference(name, weight), atol=1e-7, rtol=1e-6)


def test_the_levels_are_bitsandbytes_and_the_kernels_round_them_well():
    for name, levels in LEVELS.items():
        table = bnb.library().functional.get_4bit_type(name, device="cpu")
        torch.testing.assert_close(torch.tensor(levels), table, atol=1e-7, rtol=0)
        rounded = (table * UNITS[name]).round()
        # FP4's smallest level, 1/192, is worth keeping apart from 0
        assert float((rounded / UNITS[name] - table).abs().max()) < 1 / 192


def test_importing_bitsandbytes_downloads_nothing():
    bnb.library()
    assert sys.modules.get("kernels", "absent") is not None


@four_bits
def test_blocks_run_on_from_row_to_row(name):
    rows, cols = 10, 96
    codes = torch.randint(0, 256, (rows, cols // 2), dtype=torch.uint8)
    scales = torch.rand(15)
    flat = torch.stack((codes >> 4, codes & 15), -1).view(-1)
    expected = torch.tensor([LEVELS[name][code] * scales[i // 64] for i, code in enumerate(flat.tolist())])
    weight = QTensor((codes, scales), dtype(name), (rows, cols))
    torch.testing.assert_close(weight.dequantize(), expected.view(rows, cols))
    torch.testing.assert_close(weight.rows(1, 4).dequantize(), expected.view(rows, cols)[1:4])
    torch.testing.assert_close(weight.rows(8, 10).dequantize(), expected.view(rows, cols)[8:])


@each_type
def test_a_stack_of_matrices_comes_apart(name):
    weight = quantized(name, 3, 20, 64)
    whole = weight.dequantize()
    assert whole.shape == (3, 20, 64)
    for index in range(3):
        one = weight.at(index)
        assert one.shape == (20, 64)
        assert torch.equal(one.dequantize(), whole[index])


@pytest.mark.parametrize(("weights", "blocks", "size"), [(960, 15, 64), (100, 1, 128), (4096, 128, 32)])
def test_the_size_of_blocks_follows_from_their_number(weights, blocks, size):
    assert block_size(weights, blocks) == size
    with pytest.raises(ShapeMismatch):
        block_size(960, 14)


@pytest.mark.skipif(not SETS, reason="no native kernels on this machine")
@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("shape", [(100, 96), (33, 256), (17, 160)])
@each_type
def test_native_kernels_keep_the_bits_and_multiply_as_exactly_as_8_bits_allow(name, shape, isa):
    weight = quantized(name, *shape)
    packer = Packer(isa, native.Memory(), lambda part: None)
    linear = Linear(weight, None, torch.bfloat16, hold=False, packer=packer)
    packer.finish()
    assert linear.packed is not None
    assert linear.packed.dtype == {"int8": "q8_0"}.get(name, name)
    for rows in (1, 3, 33):
        x = random(rows, shape[1], seed=rows)
        assert off(linear(x), x @ weight.dequantize().T) < 0.012


@each_type
def test_bitsandbytes_own_kernels_are_called_rightly(name):
    weight = quantized(name, 64, 128)
    x = random(5, 128, seed=1).bfloat16()
    with torch.inference_mode():
        multiply = bnb.Multiplier(weight, torch.bfloat16)
        for rows in (1, 5):  # its first use changes the layout
            y = multiply(x[:rows])
            assert y.dtype == torch.bfloat16
            assert off(y, x[:rows].float() @ weight.dequantize().T) < 0.02


@each_type
def test_without_native_kernels_a_linear_multiplies_all_the_same(name):
    weight, bias = quantized(name, 48, 96), random(48)
    x = random(4, 96, seed=2)
    for hold in (True, False):
        linear = Linear(weight, bias, torch.float32, hold=hold)
        torch.testing.assert_close(linear(x), x @ weight.dequantize().T + bias, atol=1e-5, rtol=1e-5)


@each_type
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(name, value):
    weight = random(4, 64)
    weight[1, 1] = value
    with pytest.raises(CorruptFile, match="not finite"):
        bnb.quantize(QTensor((weight,), dtype("f32"), (4, 64)), dtype(name))


@four_bits
def test_rows_of_an_odd_length_are_refused(name):
    with pytest.raises(ShapeMismatch, match="63"):
        quantized(name, 4, 63)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@each_type
def test_bitsandbytes_multiplies_on_a_gpu(name):
    weight = quantized(name, 96, 128)
    linear = Linear(weight.to("cuda"), None, torch.bfloat16, hold=True)
    assert linear._lent is not None
    x = random(5, 128, seed=1).bfloat16()
    assert off(linear(x.cuda()).cpu(), x.float() @ weight.dequantize().T) < 0.02
