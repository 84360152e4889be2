"""The native products against float64, for every type, instruction set, number of rows and threads."""

from __future__ import annotations

import multiprocessing
import os

import gguf_files
import pytest
import torch
from mull.errors import CorruptFile, InvalidRequest
from mull.kernels.cpu import native
from mull.quant.dtype import dtype
from mull.quant.linear import Linear, Packer
from mull.quant.qtensor import QTensor, from_bytes

SETS = native.instruction_sets()
FLOATS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# Rows that are no multiple of a panel's; columns of 32 only where the type's blocks allow them.
SHAPES = [(1, 1024), (17, 256), (100, 768), (300, 512)]
# What a product of 16-bit floats may be off by: bfloat16 rounds activations (and binary16 weights) to 8 bits.
# Levels of bitsandbytes' types are rounded to 7 bits.
BOUNDS = {"f32": 1e-6, "f16": 0.004, "bf16": 0.004, "nf4": 0.015, "fp4": 0.015}

needs_native = pytest.mark.skipif(not SETS, reason="no native kernels on this machine")
each_set = pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
each_type = pytest.mark.parametrize("name", native.TYPES)


def weights(name, rows, cols, seed=0):
    kind = dtype(name)
    if name in FLOATS:
        generator = torch.Generator().manual_seed(seed)
        return QTensor((torch.randn(rows, cols, generator=generator).to(FLOATS[name]),), kind, (rows, cols))
    if name in ("nf4", "fp4"):
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randint(0, 256, (rows, cols // 2), dtype=torch.uint8, generator=generator)
        scales = torch.rand(-(-rows * cols // 64), generator=generator) * 0.1
        return QTensor((codes, scales), kind, (rows, cols))
    blocks = torch.from_numpy(gguf_files.random_blocks(name, rows * cols // kind.block, seed).copy())
    return from_bytes(blocks.view(torch.uint8).reshape(-1), kind, (rows, cols))


def packed(weight, isa, bias=None):
    packer = Packer(isa, native.Memory(), lambda part: None)
    linear = Linear(weight, bias, torch.bfloat16, hold=False, packer=packer)
    packer.finish()
    assert linear.packed is not None
    return linear


def error(weight, isa, x):
    """Return the error of the native product, relative to what random rows of this size give."""
    matrix = weight.dequantize(torch.float64)
    off = packed(weight, isa)(x).double() - x.double() @ matrix.T
    return float(off.norm() / (x.double().norm() * matrix.norm()) * weight.shape[1] ** 0.5)


def rounded(name, x):
    """Return what products see of activations: 8 bits, with a scale for as many entries as a block of weights."""
    if name in FLOATS:
        return x
    parts = []
    for part in x.split(max(32, dtype(name).block), dim=1):
        largest = part.abs().amax(1, keepdim=True)
        parts.append((part * (127 / largest)).round().nan_to_num() * largest / 127)
    return torch.cat(parts, 1)


def random(m, cols, seed=0):
    return torch.randn(m, cols, generator=torch.Generator().manual_seed(seed))


def test_where_it_must_be_there_it_is():
    if os.environ.get("MULL_REQUIRE_NATIVE") != "1":
        pytest.skip("nothing requires the native kernels")
    assert native._native is not None, "the extension was not built"


@needs_native
@each_set
@pytest.mark.parametrize("shape", SHAPES)
@each_type
def test_products_are_exact_but_for_8_bit_activations(name, shape, isa):
    weight = weights(name, *shape)
    for m in (1, 2, 3, 7, 12, 33):
        x = random(m, shape[1], m)
        assert error(weight, isa, x) < BOUNDS.get(name, 0.015)
        assert error(weight, isa, rounded(name, x)) < BOUNDS.get(name, 1e-5)


@needs_native
@each_set
@pytest.mark.parametrize("cols", [32, 96, 288])
@pytest.mark.parametrize("name", [n for n in native.TYPES if dtype(n).block <= 32])
def test_columns_that_no_256_divides(name, cols, isa):
    assert error(weights(name, 20, cols), isa, random(5, cols)) < BOUNDS.get(name, 0.015)


@needs_native
@each_set
@each_type
@pytest.mark.parametrize("case", ["zeros", "outlier", "tiny", "huge", "largest"])
def test_adversarial_activations(name, case, isa):
    weight = weights(name, 64, 512)
    x = random(2, 512, 3)
    if case == "zeros":
        assert not packed(weight, isa)(torch.zeros(2, 512)).any()
        return
    if case == "outlier":
        x[:, 100] = 1000
    scale = {"tiny": 1e-30, "huge": 1e30}.get(case, 1.0)
    if case == "largest":
        x = torch.full((2, 512), 3.0)
    assert error(weight, isa, rounded(name, x * scale)) < BOUNDS.get(name, 1e-5)


@needs_native
@each_set
@each_type
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_does_not_vanish(name, value, isa):
    x = torch.ones(1, 256)
    x[0, 40] = value
    assert not packed(weights(name, 16, 256), isa)(x).isfinite().all()


@needs_native
@each_type
def test_threads_do_not_change_the_result(name):
    linear = packed(weights(name, 1000, 512), SETS[0])
    x = random(2, 512, 4)
    results = []
    try:
        for count in (1, 2, 5, 2):
            native.set_threads(count)
            results += [linear(x) for _ in range(20)]
    finally:
        native.set_threads(1)
    assert all(torch.equal(result, results[0]) for result in results)


@needs_native
def test_a_view_of_some_rows_and_a_bias():
    whole = weights("q4_k", 64, 256)
    bias = torch.arange(32).float()
    x = random(2, 256, 5)
    apart = packed(whole.rows(16, 48), SETS[0], bias)(x)
    torch.testing.assert_close(apart, packed(whole, SETS[0])(x)[:, 16:48] + bias)


@needs_native
def test_a_type_without_a_kernel_is_packed_as_bfloat16():
    weight = weights("iq1_s", 16, 256)
    x = random(2, 256, 6)
    expected = x @ weight.dequantize(torch.float32).T
    torch.testing.assert_close(
        packed(weight, SETS[0])(x), expected, atol=0.02 * float(expected.abs().max()), rtol=0
    )


def unlike(kind, rows, cols):
    """Return normal numbers in bfloat16, of which some or all are far from the others."""
    x = random(rows, cols, 7) * 0.02
    where = torch.rand(rows, cols, generator=torch.Generator().manual_seed(8))
    if kind == "zeros":
        x = torch.where(where < 0.4, 0.0, torch.where(where < 0.5, -0.0, x))
    if kind == "a few large and small":
        x = torch.where(where < 5e-4, x * 1e8, torch.where(where > 1 - 5e-4, x * 1e-8, x))
    if kind == "a far row":
        x[3] *= 1e-12
    if kind == "all apart":
        x *= 2.0 ** (where * 80 - 60).floor()
    if kind == "hardly normal":
        x = x.sign() * (x.abs() * 1e-35).clamp(min=1.2e-38)
    return x.bfloat16()


@needs_native
@each_set
@pytest.mark.parametrize(
    "kind", ["natural", "zeros", "a few large and small", "a far row", "all apart", "hardly normal"]
)
def test_no_bit_of_a_bfloat16_is_lost(kind, isa):
    rows, cols = 100, 512
    weight, memory = unlike(kind, rows, cols), native.Memory()
    matrix = native.Packed(isa, "bf16", (rows, cols), memory)
    native.pack(isa, [matrix.part(0, weight[:48]), matrix.part(48, weight[48:])], memory)
    # Once for a single row of activations, once for many.
    units = torch.eye(cols)
    assert torch.equal(matrix.multiply(units).T.bfloat16(), weight)
    assert torch.equal(matrix.multiply(units[5:6])[0].bfloat16(), weight[:, 5])
    size = native.packed_bytes(isa, "bf16", rows, cols)
    if size < 2 * rows * cols:  # in 12 bits, but for panels whose weights are too far apart
        assert (memory.nbytes > size + 64) == (kind in ("a far row", "all apart"))


@needs_native
def test_odd_columns_are_held():
    weight = weights("f32", 16, 40)
    linear = Linear(
        weight, None, torch.float32, hold=True, packer=Packer(SETS[0], native.Memory(), lambda part: None)
    )
    assert linear.packed is None
    x = random(2, 40, 6)
    torch.testing.assert_close(linear(x), x @ weight.parts[0].T)


@needs_native
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_can_multiply():
    linear = packed(weights("q8_0", 1000, 256), SETS[0])
    x = torch.ones(1, 256)
    native.set_threads(2)
    expected = linear(x)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(linear(x).tolist()))
    child.start()
    child.join(60)
    native.set_threads(1)
    assert child.exitcode == 0
    assert results.get() == expected.tolist()


@needs_native
def test_a_file_cut_short_is_an_error_and_no_crash(tmp_path):
    from mull.models.checkpoint.mapping import MappedFile

    path = tmp_path / "weights"
    path.write_bytes(bytes(34 * 8 * 4096))
    file = MappedFile(path)
    weight = file.tensor(0, dtype("q8_0"), (4096, 256), "cpu")
    os.truncate(path, 4096)
    with pytest.raises(CorruptFile, match="cut short"):
        packed(weight, SETS[0])


@needs_native
def test_memory_that_cannot_be_had(monkeypatch):
    monkeypatch.setattr(native._native, "reserve", lambda size: 0)
    with pytest.raises(native.OutOfMemory, match="MB of memory"):
        packed(weights("q8_0", 16, 256), SETS[0])


def test_an_instruction_set_is_chosen_by_name():
    assert native.choose("none") is None
    for isa in SETS:
        assert native.choose(isa.name) == isa
    assert native.choose(None) == (SETS[0] if SETS else None)
    with pytest.raises(InvalidRequest, match="no kernels for 'z80' here"):
        native.choose("z80")
