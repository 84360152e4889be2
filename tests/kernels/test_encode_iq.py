"""The native encoders of types with codebooks and uneven levels against those in torch."""

from __future__ import annotations

import threading

import pytest
import torch
import weight_rows
from mull.errors import CorruptFile
from mull.kernels.cpu import native
from mull.quant.dtype import dtype
from mull.quant.encode import encode
from mull.quant.qtensor import QTensor

SETS = native.instruction_sets()
NAMES = ("iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs")

pytestmark = pytest.mark.skipif(not SETS, reason="no native kernels on this machine")
each_set = pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
each_type = pytest.mark.parametrize("name", NAMES)


def plain(values):
    return QTensor((values,), dtype("f32"), tuple(values.shape))


def blocks(values, name, isa, importance=None):
    return encode(plain(values), dtype(name), importance, isa=isa).parts[0]


def error(values, made, name, importance=None):
    """Return the squared error and the energy of the weights, both weighed."""
    found = QTensor((made,), dtype(name), tuple(values.shape)).dequantize(torch.float32)
    count = torch.ones(()) if importance is None else importance.double()
    left = (found.double() - values.double()).square() * count
    return float(left.sum()), float((values.double().square() * count).sum())


@each_set
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("kind", weight_rows.natural(1, 256))
@each_type
def test_they_find_what_those_in_torch_find(name, kind, weighed, isa):
    values = weight_rows.natural(4, 1024)[kind]
    importance = weight_rows.importance(1024) if weighed else None
    ours, reference = blocks(values, name, isa, importance), blocks(values, name, None, importance)
    assert (ours == reference).float().mean() > 0.98
    assert error(values, ours, name, importance)[0] < 1.001 * error(values, reference, name, importance)[0]


@each_set
@pytest.mark.parametrize("kind", weight_rows.extreme(1, 256))
@each_type
def test_extreme_rows(name, kind, isa):
    values = weight_rows.extreme(2, 512)[kind]
    for importance in (None, weight_rows.importance(512)):
        ours, reference = blocks(values, name, isa, importance), blocks(values, name, None, importance)
        left, energy = error(values, ours, name, importance)
        assert left <= 1.01 * error(values, reference, name, importance)[0] + 1e-4 * energy


@each_set
@each_type
def test_importance_that_says_nothing(name, isa):
    values = weight_rows.natural(4, 512)["heavy"]
    expected = blocks(values, name, isa)
    for importance in (torch.zeros(512), torch.full((512,), 3.0), torch.full((512,), 1e-30)):
        assert torch.equal(blocks(values, name, isa, importance), expected)
    partly = weight_rows.importance(512)
    partly[256:] = 0
    weighed = blocks(values, name, isa, partly)
    assert torch.equal(weighed.view(4, 2, -1)[:, 1], expected.view(4, 2, -1)[:, 1])
    assert not torch.equal(weighed, expected)


@each_set
@each_type
def test_every_byte_is_written(name, isa):
    values = weight_rows.natural(2, 512)["gaussian"]
    values[1, :256] = 0
    made = [
        torch.full((2, dtype(name).shape_bytes((512,))), filled, dtype=torch.uint8) for filled in (0, 255)
    ]
    for out in made:
        assert native.encode(isa, ("f32", values), 512, name, None, out)
    assert torch.equal(*made)


@each_set
@each_type
def test_blocks_do_not_depend_on_their_neighbours(name, isa):
    values, block = weight_rows.natural(1, 1280)["heavy"], dtype(name).block
    whole = blocks(values, name, isa).view(1280 // block, -1)
    assert torch.equal(blocks(values.view(-1, block), name, isa), whole)


@each_set
@each_type
def test_powers_of_two_only_move_the_scale(name, isa):
    values = weight_rows.natural(2, 512)["gaussian"] * 64  # so that scales are no subnormal numbers
    made, larger = blocks(values, name, isa), blocks(values * 1024, name, isa)
    found, more = (QTensor((t,), dtype(name), (2, 512)).dequantize(torch.float32) for t in (made, larger))
    assert torch.equal(found * 1024, more)


@each_set
@each_type
def test_scales_too_large_for_binary16_are_told(name, isa):
    values = torch.ones(4, 512)
    values[2, 300] = 1e12
    with pytest.raises(CorruptFile, match="too large"):
        blocks(values, name, isa)
    values[2, 300] = 3e38
    with pytest.raises(CorruptFile, match="too large"):
        blocks(values, name, isa)


@each_type
def test_threads_that_begin_at_once_share_the_codebook(name):
    values = weight_rows.natural(8, 512)["gaussian"]
    expected, found = blocks(values, name, SETS[0]), []
    threads = [threading.Thread(target=lambda: found.append(blocks(values, name, SETS[0]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(torch.equal(made, expected) for made in found)
