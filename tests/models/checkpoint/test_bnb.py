"""Folders that bitsandbytes quantized: several tensors are one matrix, and broken ones are errors that name them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from mull.errors import CorruptFile, NotSupported
from mull.models.checkpoint.open import open_checkpoint
from mull.quant.formats.bnb import LEVELS
from safetensors.torch import save_file

ROWS, COLS = 4, 96
BLOCKS = ROWS * COLS // 64
STATE = "x.weight.quant_state.bitsandbytes__nf4"


def state(**changes):
    said = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [ROWS, COLS]} | changes
    return torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)


def four_bits(**changes):
    tensors = {
        "x.weight": torch.arange(ROWS * COLS // 2).to(torch.uint8).view(-1, 1),
        "x.weight.absmax": torch.arange(1.0, BLOCKS + 1),
        "x.weight.quant_map": torch.tensor(LEVELS["nf4"]),
        STATE: state(),
    }
    return tensors | changes


def nested(**changes):
    tensors = four_bits(
        **{
            "x.weight.absmax": torch.arange(BLOCKS, dtype=torch.uint8),
            "x.weight.nested_absmax": torch.tensor([2.0]),
            "x.weight.nested_quant_map": torch.linspace(-1, 1, 256),
            STATE: state(nested_blocksize=256, nested_dtype="float32", nested_offset=0.5),
        }
    )
    return tensors | changes


def int8(**changes):
    tensors = {
        "x.weight": torch.full((ROWS, COLS), -127, dtype=torch.int8),
        "x.SCB": torch.arange(1.0, ROWS + 1),
        "x.weight_format": torch.tensor(0, dtype=torch.uint8),
    }
    return tensors | changes


def opened(folder, tensors):
    (folder / "config.json").write_text('{"model_type": "llama"}')
    save_file({"y.weight": torch.ones(2), **tensors}, folder / "model.safetensors")
    return open_checkpoint(folder)


@pytest.mark.parametrize(("tensors", "kind"), [(four_bits(), "nf4"), (nested(), "nf4"), (int8(), "int8")])
def test_a_matrix_is_one_tensor(tensors, kind, tmp_path):
    with opened(tmp_path, tensors) as checkpoint:
        assert sorted(checkpoint.names()) == ["x.weight", "y.weight"]
        info = checkpoint.info("x.weight")
        assert (info.dtype, info.shape) == (kind, (ROWS, COLS))
        assert checkpoint.num_parameters == ROWS * COLS + 2
        assert checkpoint.load("x.weight").shape == (ROWS, COLS)
        assert not checkpoint.has("x.SCB")


def test_plain_and_nested_scales_and_rows_are_read(tmp_path):
    levels = torch.tensor(LEVELS["nf4"])
    bytes_ = torch.arange(ROWS * COLS // 2) % 256
    codes = torch.stack((bytes_ >> 4, bytes_ & 15), 1).view(-1)
    plain = torch.arange(1.0, BLOCKS + 1)
    inner = torch.linspace(-1, 1, 256)[:BLOCKS] * 2 + 0.5
    for number, (tensors, scales) in enumerate([(four_bits(), plain), (nested(), inner)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        expected = (levels[codes] * scales.repeat_interleave(64)).view(ROWS, COLS)
        with opened(folder, tensors) as checkpoint:
            torch.testing.assert_close(checkpoint.load("x.weight").dequantize(), expected)
    with opened(tmp_path, int8()) as checkpoint:
        got = checkpoint.load("x.weight").dequantize()
    torch.testing.assert_close(got, -torch.arange(1.0, ROWS + 1)[:, None].expand(ROWS, COLS))


def test_codes_may_be_stored_as_any_type(tmp_path):
    with opened(tmp_path, four_bits()) as checkpoint:
        expected = checkpoint.load("x.weight").dequantize()
    folder = tmp_path / "bf16"
    folder.mkdir()
    as_floats = four_bits()["x.weight"].view(-1).view(torch.bfloat16).view(-1, 1)
    with opened(folder, four_bits(**{"x.weight": as_floats})) as checkpoint:
        assert torch.equal(checkpoint.load("x.weight").dequantize(), expected)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (four_bits(**{STATE: state(shape=[ROWS])}), "no matrix"),
        (four_bits(**{STATE: state(shape=[ROWS, -2])}), "no matrix"),
        (four_bits(**{STATE: state(blocksize=3)}), "3 weights share a scale"),
        (four_bits(**{STATE: state(blocksize="64")}), "share a scale"),
        (four_bits(**{STATE: torch.ones(9, dtype=torch.uint8)}), "does not describe a matrix"),
        (four_bits(**{STATE: state(shape=[ROWS, 2 * COLS])}), "x.weight' holds 192 bytes"),
        (four_bits(**{"x.weight.absmax": torch.ones(5)}), "absmax' holds 20 bytes"),
        (four_bits(**{"x.weight.absmax": torch.ones(BLOCKS, dtype=torch.int32)}), "absmax' holds"),
        (nested(**{"x.weight.nested_absmax": torch.ones(2)}), "nested_absmax' holds 8 bytes"),
        (nested(**{STATE: state(nested_blocksize=256, nested_offset="x")}), "as a mean"),
        (int8(**{"x.SCB": torch.ones(3)}), "SCB' holds 12 bytes"),
        (int8(**{"x.weight": torch.ones(ROWS, COLS)}), "no matrix of eight bits"),
    ],
)
def test_what_does_not_fit_together_is_named(tensors, says, tmp_path):
    with pytest.raises(CorruptFile, match=says):
        opened(tmp_path, tensors)


@pytest.mark.parametrize("missing", ["x.weight", "x.weight.absmax", "x.weight.nested_quant_map"])
def test_missing_parts_are_named(missing, tmp_path):
    tensors = nested()
    del tensors[missing]
    with pytest.raises(CorruptFile, match=f"'{missing}' is missing"):
        opened(tmp_path, tensors)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (nested(**{STATE: state(nested_blocksize=128, nested_offset=0.5)}), "nested in blocks of 128"),
        (four_bits(**{STATE: state(shape=[ROWS, COLS + 1])}), "odd length"),
        (int8(**{"x.weight_format": torch.tensor(1, dtype=torch.uint8)}), "one kind of GPU"),
    ],
)
def test_layouts_that_are_not_read_are_refused(tensors, says, tmp_path):
    with pytest.raises(NotSupported, match=says):
        opened(tmp_path, tensors)


def test_opening_such_a_folder_needs_no_torch(tmp_path):
    opened(tmp_path, nested()).close()
    code = (
        "import sys; from pathlib import Path; from mull.models.checkpoint.open import open_checkpoint; "
        f"print(open_checkpoint(Path({str(tmp_path)!r})).names(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
