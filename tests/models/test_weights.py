"""Tensors that an architecture cannot use are errors that name them."""

from __future__ import annotations

import gguf
import pytest
import tiny
import torch
from mull.errors import MissingTensor, NotSupported, ShapeMismatch
from mull.kernels.device import choose_device
from mull.models.checkpoint.open import open_checkpoint
from mull.models.load import Placement, load_model
from safetensors.torch import load_file, save_file


def load_with(folder, name, changes):
    """Load a tiny model after some of its tensors were replaced."""
    tiny.save(name, folder)
    path = folder / "model.safetensors"
    save_file(load_file(path) | changes, path)
    with open_checkpoint(folder) as checkpoint:
        return load_model(checkpoint, Placement(choose_device("cpu"), torch.float32), 64)


def test_whole_numbers_are_not_taken_for_weights(tmp_path):
    name = "model.layers.0.self_attn.q_proj.weight"
    with pytest.raises(NotSupported, match=rf"{name}' holds whole numbers \(i8\)"):
        load_with(tmp_path, "llama", {name: torch.ones(64, 64, dtype=torch.int8)})


def test_rope_divisors_of_another_size_are_refused(tmp_path):
    with pytest.raises(ShapeMismatch, match=r"'rope_freqs.weight' has the shape \[3\]"):
        load_with(tmp_path, "llama", {"rope_freqs.weight": torch.ones(3)})


@pytest.mark.parametrize("shape", [(), (3,), (1, 32)])
def test_a_head_norm_of_another_shape_is_refused(tmp_path, shape):
    name = "model.layers.0.self_attn.q_norm.weight"
    with pytest.raises(ShapeMismatch, match=name):
        load_with(tmp_path, "qwen3", {name: torch.ones(shape)})


def test_a_vocabulary_alone_is_no_model(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "vocab.gguf", "llama")
    tiny.add_tokenizer(writer, tiny.VOCAB)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with (
        open_checkpoint(tmp_path / "vocab.gguf") as checkpoint,
        pytest.raises(MissingTensor, match="only a vocabulary"),
    ):
        load_model(checkpoint, Placement(choose_device("cpu"), torch.float32), 64)
