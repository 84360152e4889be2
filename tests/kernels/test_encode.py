"""The native encoders against those in torch, for every type, instruction set, number of threads and kind of row."""

from __future__ import annotations

import mmap
import os

import gguf_files
import pytest
import torch
import weight_rows
from mull.errors import CorruptFile
from mull.kernels.cpu import native
from mull.quant.dtype import dtype
from mull.quant.encode import encode
from mull.quant.qtensor import QTensor, from_bytes

SETS = native.instruction_sets()
# Types whose blocks follow from the weights alone.
EXACT = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "mxfp4", "tq1_0", "tq2_0")
SEARCHED = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k")
BY_IMPORTANCE = (*SEARCHED, "q4_0", "q4_1", "q5_0", "q5_1")

pytestmark = pytest.mark.skipif(not SETS, reason="no native kernels on this machine")
each_set = pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
each_type = pytest.mark.parametrize("name", [*EXACT, *SEARCHED])


def plain(values):
    return QTensor((values,), dtype("f32"), tuple(values.shape))


def both(values, name, isa, importance=None):
    """Return what the native encoder and the one in torch make of the weights."""
    kind = dtype(name)
    return tuple(encode(plain(values), kind, importance, isa=which) for which in (isa, None))


def error(values, made, importance=None):
    left = (made.dequantize(torch.float32).double() - values.double()).square()
    return float((left if importance is None else left * importance).sum())


@each_set
@pytest.mark.parametrize("kind", [*weight_rows.natural(1, 256), *weight_rows.extreme(1, 256)])
@pytest.mark.parametrize("name", EXACT)
def test_types_without_a_search_are_bit_equal(name, kind, isa):
    values = {**weight_rows.natural(5, 768), **weight_rows.extreme(5, 768)}[kind]
    ours, reference = both(values, name, isa)
    assert torch.equal(ours.parts[0], reference.parts[0])


@each_set
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("kind", weight_rows.natural(1, 256))
@pytest.mark.parametrize("name", BY_IMPORTANCE)
def test_searches_find_what_those_in_torch_find(name, kind, weighed, isa):
    values = weight_rows.natural(16, 1024)[kind]
    importance = weight_rows.importance(1024) if weighed else None
    ours, reference = both(values, name, isa, importance)
    bound = 1.05 if kind == "outliers" else 1.01  # few groups make most of that error
    assert error(values, ours, importance) < bound * error(values, reference, importance)
    assert (ours.parts[0] == reference.parts[0]).float().mean() > (0.8 if kind == "outliers" else 0.95)


@each_set
@pytest.mark.parametrize("kind", weight_rows.extreme(1, 256))
@pytest.mark.parametrize("name", BY_IMPORTANCE)
def test_extreme_rows(name, kind, isa):
    values = weight_rows.extreme(4, 768)[kind]
    for importance in (None, weight_rows.importance(768), torch.zeros(768)):
        ours, reference = both(values, name, isa, importance)
        weights = None if importance is None or not importance.any() else importance
        energy = float((values.double().square() * (1 if weights is None else weights)).sum())
        assert error(values, ours, weights) <= 1.05 * error(values, reference, weights) + 1e-5 * energy


@each_set
@pytest.mark.parametrize("cols", [256, 512, 768, 1280])
@each_type
def test_rows_do_not_depend_on_their_number(name, cols, isa):
    values = weight_rows.natural(7, cols)["gaussian"]
    importance = weight_rows.importance(cols)
    whole = encode(plain(values), dtype(name), importance, isa=isa).parts[0]
    for row in range(7):
        assert torch.equal(
            encode(plain(values[row]), dtype(name), importance, isa=isa).parts[0][0], whole[row]
        )


@each_set
@pytest.mark.parametrize("name", SEARCHED)
def test_blocks_do_not_depend_on_their_neighbours(name, isa):
    values = weight_rows.natural(1, 1280)["gaussian"]
    whole = encode(plain(values), dtype(name), isa=isa).parts[0].view(5, -1)
    assert torch.equal(encode(plain(values.view(5, 256)), dtype(name), isa=isa).parts[0], whole)


@each_set
@pytest.mark.parametrize("cols", [32, 96, 544])
@pytest.mark.parametrize("name", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "mxfp4"])
def test_columns_that_no_256_divides(name, cols, isa):
    values = weight_rows.natural(3, cols)["heavy"]
    ours, reference = both(values, name, isa)
    assert torch.equal(ours.parts[0], reference.parts[0])
    importance = weight_rows.importance(cols)
    ours, reference = both(values, name, isa, importance)
    assert error(values, ours, importance) < 1.02 * error(values, reference, importance)


@each_type
def test_threads_do_not_change_the_result(name):
    values, importance = weight_rows.natural(37, 768)["heavy"], weight_rows.importance(768)
    results = []
    try:
        for threads in (1, 2, 3):
            native.set_threads(threads)
            results.append(encode(plain(values), dtype(name), importance).parts[0])
    finally:
        native.set_threads(1)
    assert all(torch.equal(result, results[0]) for result in results)


@each_set
@pytest.mark.parametrize("source", [name for name in native.TYPES if dtype(name).ggml_id is not None])
def test_every_type_is_opened_as_it_is_read(source, isa):
    if source in ("f32", "f16", "bf16"):
        kinds = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
        stored = torch.randn((3, 480), generator=torch.Generator().manual_seed(1)).to(kinds[source])
        weight = QTensor((stored,), dtype(source), (3, 480))
    else:
        blocks = torch.from_numpy(
            gguf_files.random_blocks(source, 6 * 256 // dtype(source).block, seed=1).copy()
        )
        weight = from_bytes(blocks.view(torch.uint8).flatten(), dtype(source), (3, 512))
    values = weight.dequantize(torch.float32)
    ours = encode(weight, dtype("q8_0"), isa=isa)
    assert torch.equal(ours.parts[0], encode(plain(values), dtype("q8_0"), isa=None).parts[0])


@each_set
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_told_wherever_they_are(value, isa):
    for cols in (32, 544):
        for at in range(cols):
            values = torch.ones(1, cols)
            values[0, at] = value
            with pytest.raises(CorruptFile, match="not finite"):
                encode(plain(values), dtype("q4_0"), isa=isa)


@each_set
@pytest.mark.parametrize(
    ("name", "size"), [("q4_0", 1e6), ("q4_1", 1e6), ("q8_0", 1e7), ("q6_k", 1e9), ("q2_k", 1e8)]
)
def test_scales_too_large_for_binary16_are_told(name, size, isa):
    values = torch.ones(4, 512)
    values[2, 300] = size
    with pytest.raises(CorruptFile, match="too large"):
        encode(plain(values), dtype(name), isa=isa)


def test_a_type_without_an_encoder_says_so():
    out = torch.empty((1, dtype("q8_k").nbytes), dtype=torch.uint8)
    assert not native.encode(SETS[0], ("f32", torch.ones(1, 256)), 256, "q8_k", None, out)
    assert not native.encode(SETS[0], ("f32", torch.ones(1, 100)), 100, "q4_k", None, out)


def test_a_file_cut_short_is_an_error_and_no_crash(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(bytes(64 * 4096))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
        stored = torch.frombuffer(mapped, dtype=torch.float32).view(64, 1024)
        os.truncate(path, 4096)
        with pytest.raises(CorruptFile, match="cut short"):
            encode(QTensor((stored,), dtype("f32"), (64, 1024)), dtype("q4_k"))
