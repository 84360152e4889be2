"""Quantizing while loading: the types of GGUF's recipes, from folders and from files, and what is refused."""

from __future__ import annotations

import pytest
import tiny
import torch
from mull.errors import CorruptFile, InvalidRequest
from mull.models.checkpoint.names import gguf_name
from mull.models.checkpoint.open import open_checkpoint
from mull.models.load import Placement, find_architecture, load_model
from mull.models.quantize_on_load import quantizing
from mull.quant.dtype import dtype
from mull.quant.encode import encode
from mull.quant.load_types import load_type
from safetensors.torch import load_file, save_file


def types(checkpoint):
    return {info.name: info.dtype for info in checkpoint.infos.values()}


def gguf_types(checkpoint):
    """Return the types by GGUF's names; experts, which stand apart in folders, under one."""
    model = find_architecture(checkpoint)
    found = {}
    for name, kind in types(checkpoint).items():
        known = gguf_name(name, model.gguf_names)
        head, expert, rest = known.partition(".ffn_")
        if expert and rest.split(".")[1].isdecimal():
            known = f"{head}.ffn_{rest.split('.')[0]}_exps.weight"
        assert found.setdefault(known, kind) == kind
    return found


@pytest.mark.parametrize("kind", ["q8_0", "Q4_0", "mxfp4", "bf16"])
@pytest.mark.parametrize("name", ["llama", "llama-tied-biased", "qwen3moe", "phi3"])
def test_a_folder_and_its_gguf_get_the_same_types(name, kind, tmp_path):
    model = tiny.save(name, tmp_path / "folder")
    path = tiny.write_gguf(model, tiny.TINY[name].gguf, tmp_path / "model.gguf")
    with open_checkpoint(tmp_path / "folder") as folder, open_checkpoint(path) as file:
        a, b = gguf_types(quantizing(folder, kind)), types(quantizing(file, kind))
        assert kind.lower() in a.values()
        assert {name: b[name] for name in a if "lm_head" not in name} == a
        assert set(map(str, a)) <= set(b)


def test_tensors_are_encoded_as_they_are_loaded(tmp_path):
    tiny.save("llama", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        view = quantizing(checkpoint, "q4_0")
        assert view.nbytes < checkpoint.nbytes / 5
        assert view.num_parameters == checkpoint.num_parameters
        for info in view.infos.values():
            got, stored = view.load(info.name), checkpoint.load(info.name)
            expected = stored if info.dtype == "f32" else encode(stored, dtype(info.dtype))
            assert got.dtype.name == info.dtype
            assert got.nbytes == info.nbytes
            assert torch.equal(got.parts[0], expected.parts[0])


def test_a_model_loaded_so_computes_with_the_rounded_weights(tmp_path):
    tiny.save("llama", tmp_path / "plain")
    with open_checkpoint(tmp_path / "plain") as checkpoint:
        view = quantizing(checkpoint, "q8_0")
        rounded = {name: view.load(name).dequantize().contiguous() for name in view.names()}
        loaded = load_model(view, Placement(torch.device("cpu"), torch.float32), 64)
    tiny.save("llama", tmp_path / "rounded")
    save_file(rounded, tmp_path / "rounded" / "model.safetensors")
    with open_checkpoint(tmp_path / "rounded") as checkpoint:
        expected = load_model(checkpoint, Placement(torch.device("cpu"), torch.float32), 64)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    for name, matrices in expected.matrices.items():
        for one, other in zip(loaded.matrices[name], matrices, strict=True):
            if one.shape[1] == 64:
                torch.testing.assert_close(one(x), other(x))


@pytest.mark.parametrize("kind", ["q8_0", "nf4"])
def test_weights_of_few_bits_are_not_rounded_again(kind, tmp_path):
    model = tiny.build("llama")
    path = tiny.write_gguf(model, "llama", tmp_path / "plain.gguf")
    with open_checkpoint(path) as checkpoint:
        view = quantizing(checkpoint, "q4_0")
        with pytest.raises(InvalidRequest, match="are q4_0 already") as caught:
            quantizing(view, kind)
    assert "without --quantize" in caught.value.hint


def test_a_type_that_would_ruin_the_model_is_refused(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "BASE", {**tiny.BASE, "hidden_size": 256, "intermediate_size": 256})
        tiny.save("llama", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint, pytest.raises(InvalidRequest, match="without importance"):
        quantizing(checkpoint, "iq2_xxs")


def test_a_weight_that_is_not_finite_is_named(tmp_path):
    tiny.save("llama", tmp_path)
    name, path = "model.layers.1.mlp.up_proj.weight", tmp_path / "model.safetensors"
    weight = load_file(path)[name]
    weight[0, 0] = float("nan")
    save_file(load_file(path) | {name: weight}, path)
    with open_checkpoint(tmp_path) as checkpoint, pytest.raises(CorruptFile, match=f"{name}: .*not finite"):
        quantizing(checkpoint, "q8_0").load(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("nf5", "nf4"), ("q4km", "q4_k_m"), ("int9", "int8"), ("zzz", "llm quantize --list"), ("copy", "llm")],
)
def test_unknown_types_name_the_nearest(name, hint):
    with pytest.raises(InvalidRequest, match=f"there is no type '{name}'") as caught:
        load_type(name)
    assert hint in caught.value.hint


@pytest.mark.parametrize(("name", "known"), [("NF4", "nf4"), ("q4-k-m", "Q4_K_M"), ("fp16", "F16")])
def test_names_are_read_in_any_case(name, known):
    assert load_type(name).name == known
