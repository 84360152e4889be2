"""A packed tensor: views of rows, gathering, chunked unpacking, moving."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf_files import random_blocks
from mull.errors import ShapeMismatch
from mull.quant import qtensor
from mull.quant.dtype import dtype
from mull.quant.qtensor import QTensor, from_bytes


def packed(name: str, shape: tuple[int, ...], seed: int = 0) -> QTensor:
    kind = dtype(name)
    blocks = random_blocks(name, int(np.prod(shape)) // kind.block, seed)
    return from_bytes(torch.from_numpy(blocks).flatten(), kind, shape)


def plain(name: str, shape: tuple[int, ...]) -> QTensor:
    torch_dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[name]
    values = torch.arange(int(np.prod(shape)), dtype=torch.float32).to(torch_dtype)
    return from_bytes(values.view(torch.uint8), dtype(name), shape)


def test_block_tensors_hold_rows_of_bytes():
    weights = packed("q4_k", (3, 512))
    (data,) = weights.parts
    assert data.shape == (3, 288)
    assert weights.nbytes == 3 * 288


@pytest.mark.parametrize("name", ["f32", "f16", "bf16"])
def test_plain_tensors_share_memory_when_nothing_changes(name):
    weights = plain(name, (4, 6))
    own = weights.dequantize(weights.parts[0].dtype)
    assert own.data_ptr() == weights.parts[0].data_ptr()
    assert torch.equal(weights.dequantize(torch.float32), torch.arange(24.0).view(4, 6))


@pytest.mark.parametrize("name", ["f32", "bf16", "q8_0", "q4_k"])
@pytest.mark.parametrize("shape", [(8, 512), (4, 3, 256)], ids=str)
def test_rows_are_views(name, shape):
    weights = plain(name, shape) if name in ("f32", "bf16") else packed(name, shape)
    part = weights.rows(1, 3)
    assert part.shape == (2, *shape[1:])
    assert torch.equal(part.dequantize(torch.float32), weights.dequantize(torch.float32)[1:3])
    storage = weights.parts[0].untyped_storage().data_ptr()
    assert part.parts[0].untyped_storage().data_ptr() == storage


def test_rows_of_a_vector_are_weights():
    weights = packed("q8_0", (128,))
    assert torch.equal(
        weights.rows(32, 96).dequantize(torch.float32), weights.dequantize(torch.float32)[32:96]
    )
    with pytest.raises(ShapeMismatch, match="q8_0"):
        weights.rows(5, 64)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 9)])
def test_rows_outside_are_refused(start, stop):
    with pytest.raises(ShapeMismatch):
        packed("q8_0", (8, 32)).rows(start, stop)


@pytest.mark.parametrize("name", ["f32", "q6_k"])
def test_take_gathers_rows(name):
    weights = plain(name, (10, 256)) if name == "f32" else packed(name, (10, 256))
    ids = torch.tensor([7, 0, 7])
    assert torch.equal(weights.take(ids).dequantize(torch.float32), weights.dequantize(torch.float32)[ids])


def test_take_wants_a_matrix():
    with pytest.raises(ShapeMismatch, match="matrix"):
        packed("q8_0", (2, 2, 32)).take(torch.tensor([0]))


def test_chunks_do_not_show(monkeypatch):
    weights = packed("q4_k", (7, 768))
    whole = weights.dequantize(torch.float32)
    monkeypatch.setattr(qtensor, "_CPU_CHUNK", 512)
    assert torch.equal(weights.dequantize(torch.float32), whole)


def test_unpacking_works_on_a_chunk_at_a_time(monkeypatch):
    sizes = []
    unpack = qtensor.find_dequantizer(dtype("q8_0"))

    def spy(blocks):
        sizes.append(blocks.shape[0])
        return unpack(blocks)

    monkeypatch.setattr(qtensor, "find_dequantizer", lambda kind: spy)
    packed("q8_0", (640, 4096)).dequantize(torch.bfloat16)
    assert max(sizes) * 32 <= qtensor._CPU_CHUNK
    assert sum(sizes) == 640 * 128


def test_moving_within_a_device_keeps_the_memory():
    weights = packed("q8_0", (2, 32))
    assert weights.to("cpu").parts[0].data_ptr() == weights.parts[0].data_ptr()
    assert weights.device.type == "cpu"


def test_moving_to_another_device():
    moved = packed("q8_0", (2, 32)).to("meta")
    assert (moved.device.type, moved.shape) == ("meta", (2, 32))


def test_elements_at_odd_addresses_are_copied():
    data = torch.zeros(9, dtype=torch.uint8)[1:]
    data.copy_(torch.tensor([1.5, -2.0]).view(torch.uint8))
    assert from_bytes(data, dtype("f32"), (2,)).dequantize(torch.float32).tolist() == [1.5, -2.0]


def test_a_wrong_number_of_bytes_is_refused():
    with pytest.raises(ShapeMismatch):
        from_bytes(torch.zeros(33, dtype=torch.uint8), dtype("q8_0"), (32,))


@pytest.mark.parametrize("name", ["i8", "i64", "u8", "bool", "f64", "f8_e4m3", "f8_e5m2", "u16"])
def test_other_element_types_become_floats(name):
    kind = dtype(name)
    weights = from_bytes(torch.zeros(6 * kind.nbytes, dtype=torch.uint8), kind, (2, 3))
    assert torch.equal(weights.dequantize(torch.float32), torch.zeros(2, 3))
