"""The native kernels against float64, for every type, number of rows and threads."""

from __future__ import annotations

import multiprocessing
import os

import gguf_files
import pytest
import torch
from mull.kernels.cpu import native
from mull.quant.dtype import dtype
from mull.quant.linear import Linear
from mull.quant.qtensor import QTensor, from_bytes

needs_native = pytest.mark.skipif(not native.is_available(), reason="no native kernels on this machine")
FLOATS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
SHAPES = [(1, 1024), (17, 256), (100, 768), (300, 512)]


def weights(name, rows, cols, seed=0):
    kind = dtype(name)
    if name in FLOATS:
        generator = torch.Generator().manual_seed(seed)
        return QTensor((torch.randn(rows, cols, generator=generator).to(FLOATS[name]),), kind, (rows, cols))
    blocks = torch.from_numpy(gguf_files.random_blocks(name, rows * cols // kind.block, seed).copy())
    return from_bytes(blocks.view(torch.uint8).reshape(-1), kind, (rows, cols))


def error(weight, x):
    """Return the error of the native product, relative to what random rows of this size give."""
    linear = Linear(weight, None, torch.bfloat16, hold=False, native=True)
    matrix = weight.dequantize(torch.float64)
    off = linear(x).double() - x.double() @ matrix.T
    return float(off.norm() / (x.double().norm() * matrix.norm()) * shape_factor(weight))


def shape_factor(weight):
    """Return how much larger |x|·|W| is than |xWᵀ| for random rows."""
    return weight.shape[1] ** 0.5


def test_where_it_must_be_there_it_is():
    if os.environ.get("MULL_REQUIRE_NATIVE") != "1":
        pytest.skip("nothing requires the native kernels")
    assert native._native is not None, "the extension was not built"


@needs_native
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", native.TYPES)
def test_few_rows_are_as_exact_as_8_bit_activations(name, shape):
    weight = weights(name, *shape)
    for m in (1, 2, 3, native.MANY_ROWS - 1):
        x = torch.randn(m, shape[1], generator=torch.Generator().manual_seed(m))
        assert error(weight, x) < (1e-6 if name in FLOATS else 0.012)


@needs_native
@pytest.mark.parametrize("name", native.TYPES)
def test_many_rows_are_as_exact_as_bfloat16(name):
    weight = weights(name, 300, 512)
    x = torch.randn(native.MANY_ROWS + 5, 512, generator=torch.Generator().manual_seed(1))
    assert error(weight, x) < 0.006


@needs_native
@pytest.mark.parametrize("name", native.TYPES)
def test_activations_of_8_bits_give_exact_products(name):
    weight = weights(name, 33, 512)
    x = torch.randint(-127, 128, (3, 512), generator=torch.Generator().manual_seed(2)).float()
    x[:, ::32] = 127
    assert error(weight, x) < 1e-6


@needs_native
@pytest.mark.parametrize("name", native.TYPES)
@pytest.mark.parametrize("case", ["zeros", "outlier", "tiny", "huge", "largest"])
def test_adversarial_activations(name, case):
    weight = weights(name, 64, 512)
    x = torch.randn(2, 512, generator=torch.Generator().manual_seed(3))
    if case == "zeros":
        linear = Linear(weight, None, torch.bfloat16, hold=False, native=True)
        assert not linear(torch.zeros(2, 512)).any()
        return
    if case == "outlier":
        x[:, 100] = 1000
    scale = {"tiny": 1e-30, "huge": 1e30}.get(case, 1.0)
    if case == "largest":
        x = torch.full((2, 512), 3.0)
    assert error(weight, x * scale) < 0.012


@needs_native
@pytest.mark.parametrize("name", native.TYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_does_not_vanish(name, value):
    linear = Linear(weights(name, 16, 256), None, torch.bfloat16, hold=False, native=True)
    x = torch.ones(1, 256)
    x[0, 40] = value
    assert not linear(x).isfinite().all()


@needs_native
@pytest.mark.parametrize("name", native.TYPES)
def test_threads_do_not_change_the_result(name):
    linear = Linear(weights(name, 1000, 512), None, torch.bfloat16, hold=False, native=True)
    x = torch.randn(2, 512, generator=torch.Generator().manual_seed(4))
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5, 2):
            native.set_threads(count)
            results += [linear(x) for _ in range(20)]
    finally:
        native.set_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@needs_native
def test_a_view_of_some_rows_and_a_bias():
    whole = weights("q4_k", 64, 256)
    part = whole.rows(16, 48)
    bias = torch.arange(32).float()
    x = torch.randn(2, 256, generator=torch.Generator().manual_seed(5))
    apart = Linear(part, bias, torch.bfloat16, hold=False, native=True)(x)
    together = Linear(whole, None, torch.bfloat16, hold=False, native=True)(x)
    torch.testing.assert_close(apart, together[:, 16:48] + bias)


@needs_native
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_can_multiply():
    linear = Linear(weights("q8_0", 1000, 256), None, torch.bfloat16, hold=False, native=True)
    x = torch.ones(1, 256)
    expected = linear(x)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(linear(x).tolist()))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert results.get() == expected.tolist()


def test_a_type_without_a_kernel_is_held():
    weight = weights("q5_1", 16, 256)
    x = torch.randn(2, 256, generator=torch.Generator().manual_seed(6))
    held = Linear(weight, None, torch.float32, hold=True, native=True)
    torch.testing.assert_close(held(x), x @ weight.dequantize(torch.float32).T)
