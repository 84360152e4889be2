"""The quantizers in torch of types with codebooks and uneven levels: what they keep, and what their bytes mean."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
import weight_rows
from mull.quant.dtype import dtype, find_quantizer
from mull.quant.formats.iq4_nl import LEVELS, level_codes
from mull.quant.formats.points import grid
from mull.quant.qtensor import dequantize

# The signal-to-noise ratio, in dB, that gaussian weights keep at least.
RATIOS = {
    "iq4_nl": 21.6, "iq4_xs": 21.5, "iq3_s": 16.2, "iq3_xxs": 13.8, "iq2_s": 12.1, "iq2_xs": 10.7, "iq2_xxs": 9.2,
}  # fmt: skip
POINTS = {"iq3_s": (512, 4), "iq3_xxs": (256, 4), "iq2_s": (1024, 8), "iq2_xs": (512, 8), "iq2_xxs": (256, 8)}


def quantized(values: torch.Tensor, name: str, importance: torch.Tensor | None = None) -> torch.Tensor:
    return find_quantizer(dtype(name))(values, importance)


def back(blocks: torch.Tensor, name: str) -> torch.Tensor:
    return dequantize(blocks, dtype(name), torch.float32)


def ratio(values: torch.Tensor, name: str) -> float:
    left = back(quantized(values, name), name).double() - values.double()
    return float(10 * (values.double().square().sum() / left.square().sum()).log10())


@pytest.mark.parametrize("name", RATIOS)
def test_they_keep_what_their_bits_allow(name):
    values = weight_rows.natural(16, 1024)["gaussian"]
    assert ratio(values, name) > RATIOS[name]


@pytest.mark.parametrize("kind", weight_rows.natural(1, 256))
@pytest.mark.parametrize("name", RATIOS)
def test_the_gguf_package_reads_the_same_weights(name, kind):
    values = weight_rows.natural(3, 512)[kind]
    blocks = quantized(values, name, weight_rows.importance(512))
    assert blocks.shape == (3, dtype(name).shape_bytes((512,)))
    expected = gguf.quants.dequantize(blocks.numpy(), gguf.GGMLQuantizationType[name.upper()])
    np.testing.assert_array_equal(back(blocks, name).numpy(), expected)


@pytest.mark.parametrize("name", RATIOS)
def test_weights_of_the_type_come_back(name):
    """What was quantized once loses little when it is quantized again: scales and points are found."""
    values = back(quantized(weight_rows.natural(8, 1024)["heavy"], name), name)
    assert ratio(values, name) > 24


@pytest.mark.parametrize("name", RATIOS)
def test_importance_moves_the_error_to_where_it_matters_less(name):
    values, importance = weight_rows.natural(16, 1024)["gaussian"], weight_rows.importance(1024)

    def error(given: torch.Tensor | None) -> float:
        return float((importance * (back(quantized(values, name, given), name) - values).square()).sum())

    assert error(importance) < 0.99 * error(None)


@pytest.mark.parametrize("name", RATIOS)
def test_importance_counts_only_by_its_shares(name):
    values, importance = weight_rows.natural(4, 512)["gaussian"], weight_rows.importance(512)
    expected = quantized(values, name, importance)
    assert torch.equal(quantized(values, name, importance * 1024), expected)
    assert torch.equal(quantized(values, name, importance * 2.0**-70), expected)
    for nothing in (torch.zeros(512), torch.ones(512)):
        assert torch.equal(quantized(values, name, nothing), quantized(values, name))


@pytest.mark.parametrize("kind", weight_rows.extreme(1, 256))
@pytest.mark.parametrize("name", RATIOS)
def test_extreme_rows_stay_what_they_are(name, kind):
    values = weight_rows.extreme(3, 768)[kind]
    found = back(quantized(values, name), name).double() - values.double()
    # Scales below what binary16 holds leave all of the energy.
    assert found.square().sum() <= (1 + 1e-9) * values.double().square().sum()
    assert torch.isfinite(back(quantized(values, name, weight_rows.importance(768)), name)).all()


@pytest.mark.parametrize("name", RATIOS)
@pytest.mark.parametrize("value", [0.3, -0.3, 0.0])
def test_constant_rows_are_kept(name, value):
    values = torch.full((2, 512), value)
    found = back(quantized(values, name), name)
    torch.testing.assert_close(found, values, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", POINTS)
def test_codebooks(name):
    points = grid(name)
    assert points.shape == POINTS[name]
    assert len(points.unique(dim=0)) == len(points)


@pytest.mark.parametrize("name", POINTS)
def test_signs(name):
    """A sign may change only where the type keeps an even number of minus signs, and then at most one of eight."""
    values = weight_rows.natural(4, 1024)["gaussian"]
    found = back(quantized(values, name), name)
    changed = ((found < 0) != (values < 0)).view(-1, 8).sum(-1)
    assert changed.max() == (1 if name in ("iq2_xxs", "iq2_xs", "iq3_xxs") else 0)


def test_levels_are_the_nearest_and_the_upper_of_two():
    x = torch.linspace(-140, 140, 2801)
    levels = torch.tensor(LEVELS, dtype=torch.float32)
    nearest = (x.unsqueeze(-1) - levels).abs()
    found = level_codes(x, torch.tensor(1.0)).long()
    assert torch.equal(nearest.gather(-1, found.unsqueeze(-1)).squeeze(-1), nearest.amin(-1))
    assert level_codes(torch.tensor([-115.5, 7.0]), torch.tensor(1.0)).tolist() == [1, 9]


@pytest.mark.parametrize("kind", weight_rows.natural(1, 256))
@pytest.mark.parametrize("name", ["tq1_0", "tq2_0", "mxfp4"])
def test_types_of_fixed_levels_come_back_as_they_were(name, kind):
    blocks = quantized(weight_rows.natural(4, 512)[kind], name)
    assert torch.equal(quantized(back(blocks, name), name), blocks)
