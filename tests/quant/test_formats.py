"""Every dequantizer against the gguf package's, on random blocks."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf_files import random_blocks
from mull.errors import NotSupported
from mull.quant.dtype import DTYPES, dtype, find_dequantizer
from mull.quant.qtensor import dequantize, from_bytes

BLOCK_TYPES = [d.name for d in DTYPES.values() if d.is_block and d.ggml_id is not None]
UNREADABLE = {"q8_1", "q8_k", "q1_0"}
READABLE = [name for name in BLOCK_TYPES if name not in UNREADABLE]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def reference(blocks: np.ndarray, name: str) -> np.ndarray:
    return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name.upper()])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", READABLE)
def test_equals_the_gguf_package(name, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    blocks = random_blocks(name, 500, seed=1)
    expected = reference(blocks, name)
    assert np.isfinite(expected).all()
    got = dequantize(torch.from_numpy(blocks).to(device), dtype(name), torch.float32).cpu().numpy()
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", READABLE)
def test_every_byte_counts(name):
    blocks = random_blocks(name, 64, seed=2)
    before = torch.from_numpy(reference(blocks, name).copy())
    for at in range(blocks.shape[1]):
        changed = blocks.copy()
        changed[:, at] ^= 0x11
        found = find_dequantizer(dtype(name))(torch.from_numpy(changed))
        assert not torch.equal(found, before), f"byte {at} of {name} has no influence"


@pytest.mark.parametrize("name", READABLE)
def test_half_types_round_the_float32_result(name):
    data = torch.from_numpy(random_blocks(name, 40, seed=3)).view(20, -1)
    exact = dequantize(data, dtype(name), torch.float32)
    for torch_dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(dequantize(data, dtype(name), torch_dtype), exact.to(torch_dtype))


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("rows", [(0,), (1,), (3, 5), (2, 3, 7)], ids=str)
def test_shapes(name, rows):
    kind = dtype(name)
    num_blocks = 2 * int(np.prod(rows))
    blocks = random_blocks(name, num_blocks, seed=4)
    shape = (*rows, 2 * kind.block)
    got = from_bytes(torch.from_numpy(blocks).flatten(), kind, shape).dequantize(torch.float32)
    assert got.shape == shape
    if num_blocks:
        np.testing.assert_array_equal(got.numpy(), reference(blocks, name).reshape(shape))


@pytest.mark.parametrize("name", ["q4_0", "q5_1", "q4_k", "q6_k", "q8_0"])
def test_special_scales_stay_what_they_are(name):
    blocks = random_blocks(name, 4, seed=5)
    at = 208 if name == "q6_k" else 0
    specials = np.array([0.0, -0.0, 6e-8, 65504.0], dtype=np.float16)  # the third is subnormal
    blocks[:, at : at + 2] = specials.view(np.uint8).reshape(4, 2)
    got = dequantize(torch.from_numpy(blocks), dtype(name), torch.float32).numpy()
    np.testing.assert_array_equal(got, reference(blocks, name))


def test_all_exponents_of_mxfp4():
    blocks = random_blocks("mxfp4", 256, seed=6)
    blocks[:, 0] = np.arange(256)
    got = dequantize(torch.from_numpy(blocks), dtype("mxfp4"), torch.float32).numpy()
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got, reference(blocks, "mxfp4"))


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_types_that_nobody_unpacks_say_so(name):
    with pytest.raises(NotSupported, match=name):
        dequantize(torch.zeros(1, dtype(name).nbytes, dtype=torch.uint8), dtype(name), torch.float32)
