"""Folders become GGUF models that say and compute the same, and what GGUF cannot say is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folders
import pytest
import tiny
import torch
from mull.errors import (
    MissingTensor,
    ModelNotFound,
    NotSupported,
    TokenizerError,
    UnexpectedTensor,
    UnsupportedArchitecture,
)
from mull.models.base import registered
from mull.models.batch import Batch, Span
from mull.models.cache import CacheTypes, KVCache
from mull.models.checkpoint.base import Checkpoint
from mull.models.checkpoint.gguf_writer import write_gguf
from mull.models.checkpoint.open import open_checkpoint
from mull.models.convert.convert import Converted, convert
from mull.models.load import Placement, architectures, load_model
from safetensors.torch import load_file, save_file

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "some-model"
    path.mkdir()
    return path


def make(name: str, folder: Path, **changes: Any) -> Path:
    """Save a tiny model with a tokenizer; changes replace entries of its config.json."""
    tiny.save(name, folder)
    folders.add_tokenizer(folder)
    return change(folder, **changes)


def change(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def said(folder: Path, **options: Any) -> dict[str, object]:
    """Return the metadata of the conversion as plain values."""
    with open_checkpoint(folder) as checkpoint:
        return {key: value.value for key, value in convert(checkpoint, **options).metadata.items()}


def write(folder: Path, path: Path, **options: Any) -> Converted:
    with open_checkpoint(folder) as checkpoint:
        converted = convert(checkpoint, **options)
        write_gguf(path, converted.metadata, converted.new_tensors())
        return converted


def logits(checkpoint: Checkpoint, ids: list[int]) -> torch.Tensor:
    model = load_model(checkpoint, Placement(CPU, torch.float32), len(ids))
    cache = KVCache(model.cache_spec(), 16, 8, CacheTypes("f32", "f32"), CPU)
    with torch.inference_mode():
        return model(Batch.of([Span(ids, 0, list(range(16)), len(ids))], cache))


@pytest.mark.parametrize("name", tiny.TINY)
def test_logits_stay(name: str, folder: Path, tmp_path: Path):
    make(name, folder)
    length = 32 if name == "llama-dynamic" else 96 if name == "phi3-longrope" else 40
    ids = torch.randint(3, tiny.VOCAB, (length,), generator=torch.Generator().manual_seed(5)).tolist()
    write(folder, tmp_path / "tiny.gguf")
    with open_checkpoint(folder) as before, open_checkpoint(tmp_path / "tiny.gguf") as after:
        expected = logits(before, ids)
        assert expected.std() > 0.1
        torch.testing.assert_close(logits(after, ids), expected, atol=1e-4, rtol=1e-4)


def test_every_architecture_has_a_form_in_gguf():
    names = architectures("safetensors")
    readers = registered("gguf")
    assert all(model.written_as in readers for model in registered("safetensors").values())
    assert {registered("safetensors")[name].written_as for name in names} == set(architectures("gguf"))


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16"])
def test_types(outtype: str, folder: Path):
    make("qwen3moe", folder)
    with open_checkpoint(folder) as checkpoint:
        converted = convert(checkpoint, outtype)
        kinds = {source.name: source.dtype.name for source in converted.tensors}
        for source in converted.tensors:
            made = source.load()
            assert (made.dtype, made.shape, made.nbytes) == (source.dtype, source.shape, source.nbytes)
    assert kinds["blk.0.attn_q.weight"] == kinds["blk.0.ffn_up_exps.weight"] == outtype
    assert kinds["token_embd.weight"] == kinds["output.weight"] == outtype
    exact = (
        "blk.0.ffn_gate_inp.weight",
        "blk.1.attn_norm.weight",
        "output_norm.weight",
        "blk.0.attn_q_norm.weight",
    )
    assert {kinds[name] for name in exact} == {"f32"}
    assert converted.metadata["general.file_type"].value == {"f32": 0, "f16": 1, "bf16": 32}[outtype]


def test_auto_keeps_each_matrix_as_it_is_stored(folder: Path):
    make("qwen2", folder)
    tensors = load_file(folder / "model.safetensors")
    mixed = {name: t.half() if "layers.0" in name else t.bfloat16() for name, t in tensors.items()}
    save_file(mixed, folder / "model.safetensors")
    with open_checkpoint(folder) as checkpoint:
        sources = {source.name: source for source in convert(checkpoint).tensors}
        assert sources["blk.0.attn_q.weight"].dtype.name == "f16"
        assert sources["blk.1.attn_q.weight"].dtype.name == "bf16"
        assert sources["blk.1.attn_q.bias"].dtype.name == "f32"
        stored = checkpoint.load("model.layers.1.self_attn.q_proj.weight")
        made = sources["blk.1.attn_q.weight"].load()
        assert made.parts[0].data_ptr() == stored.parts[0].data_ptr(), "an unchanged tensor stays in the file"


def test_rotated_pairs_stand_side_by_side(folder: Path):
    make("llama", folder)
    with open_checkpoint(folder) as checkpoint:
        sources = {source.name: source for source in convert(checkpoint).tensors}
        for part, heads in (("q", 4), ("k", 2)):
            before = checkpoint.load(f"model.layers.0.self_attn.{part}_proj.weight").dequantize()
            after = sources[f"blk.0.attn_{part}.weight"].load().dequantize()
            assert len(after) == 16 * heads
            for head in range(heads):
                rows, turned = before[16 * head :][:16], after[16 * head :][:16]
                assert torch.equal(turned[0::2], rows[:8])
                assert torch.equal(turned[1::2], rows[8:])
        assert (
            sources["blk.0.attn_v.weight"]
            .load()
            .dequantize()
            .equal(checkpoint.load("model.layers.0.self_attn.v_proj.weight").dequantize())
        )


def test_experts_are_stacked_in_order(folder: Path):
    make("mixtral", folder)
    with open_checkpoint(folder) as checkpoint:
        sources = {source.name: source for source in convert(checkpoint).tensors}
        stacked = sources["blk.1.ffn_down_exps.weight"].load().dequantize()
        assert stacked.shape == (4, 64, 96)
        for index in range(4):
            name = f"model.layers.1.block_sparse_moe.experts.{index}.w2.weight"
            assert torch.equal(stacked[index], checkpoint.load(name).dequantize())
    assert not [name for name in sources if ".experts." in name]


def test_a_tied_head_is_left_out_though_the_files_hold_it(folder: Path):
    make("gemma2", folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()},
        folder / "model.safetensors",
    )
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["tie_word_embeddings"]
    path.write_text(json.dumps(config))
    with open_checkpoint(folder) as checkpoint:
        assert "output.weight" not in {source.name for source in convert(checkpoint).tensors}


def test_the_text_part_of_a_model_that_sees(folder: Path):
    make("gemma3", folder)
    tensors = load_file(folder / "model.safetensors")
    moved = {f"language_model.{name}": tensor for name, tensor in tensors.items()}
    save_file({**moved, "vision_tower.patch.weight": torch.ones(2)}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": config}))
    with open_checkpoint(folder) as checkpoint:
        converted = convert(checkpoint)
    assert converted.metadata["gemma3.rope.scaling.factor"].value == 8.0
    assert len(converted.tensors) == len(tensors)


EXPECTED: dict[str, dict[str, object]] = {
    "llama-linear": {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
    "llama-yarn": {
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.original_context_length": 64,
        "llama.rope.scaling.yarn_beta_fast": 8.0,
    },
    "mistral": {"general.architecture": "llama", "llama.attention.sliding_window": 16},
    "mixtral": {"llama.expert_count": 4, "llama.expert_used_count": 2, "llama.expert_weights_norm": None},
    "qwen2": {"qwen2.attention.sliding_window": None},
    "qwen2-window": {"qwen2.attention.sliding_window_pattern": [False, True]},
    "qwen3moe": {"qwen3moe.expert_feed_forward_length": 96, "qwen3moe.expert_weights_norm": None},
    "qwen3moe-mixed": {"qwen3moe.expert_weights_norm": False},
    "gemma2": {
        "gemma2.attn_logit_softcapping": 5.0,
        "gemma2.final_logit_softcapping": 3.0,
        "gemma2.embedding_scale": None,
        "gemma2.attention.sliding_window_pattern": None,
    },
    "gemma3": {"gemma3.rope.freq_base_swa": 10000.0, "gemma3.rope.freq_base": 1e6},
    "phi3": {"phi3.attention.sliding_window": 0},
    "phi3-partial": {"phi3.rope.dimension_count": 8},
    "phi3-longrope": {"phi3.rope.scaling.original_context_length": 64},
    "olmo3": {"general.architecture": "olmo2", "olmo2.attention.sliding_window": 16},
    "granite": {
        "granite.embedding_scale": 12.0,
        "granite.attention.scale": 0.2,
        "granite.residual_scale": 0.3,
        "granite.logit_scale": 4.0,
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_keys(name: str, folder: Path):
    metadata = said(make(name, folder))
    assert {key: metadata.get(key) for key in EXPECTED[name]} == EXPECTED[name]


def test_a_head_size_of_its_own_and_common_keys(folder: Path):
    metadata = said(make("qwen3", folder))
    expected = {
        "attention.key_length": 32,
        "attention.value_length": 32,
        "rope.dimension_count": 32,
        "block_count": 2,
        "embedding_length": 64,
        "feed_forward_length": 96,
        "attention.head_count_kv": 2,
        "context_length": 256,
        "vocab_size": 128,
    }
    assert {key: metadata[f"qwen3.{key}"] for key in expected} == expected
    assert (metadata["general.architecture"], metadata["general.type"]) == ("qwen3", "model")
    assert metadata["general.quantization_version"] == 2
    assert metadata["general.name"] == "Some Model"


def test_what_else_the_folder_says(folder: Path):
    make("llama", folder)
    generation = {"eos_token_id": [2, 5], "temperature": 0.5, "top_k": 3}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    metadata = said(folder)
    expected = {
        "general.sampling.temp": 0.5,
        "general.sampling.top_k": 3,
        "general.license": "mit",
        "general.size_label": "78K",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": 5,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": "{{ messages }}",
    }
    assert {key: metadata.get(key) for key in expected} == expected
    (folder / "generation_config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    change(folder, eos_token_id=[7, 2], bos_token_id=None)
    metadata = said(folder)
    assert (metadata["tokenizer.ggml.eos_token_id"], metadata["tokenizer.ggml.eot_token_id"]) == (7, 2)
    assert metadata["tokenizer.ggml.bos_token_id"] == 1, "the template's"


@pytest.mark.parametrize(("greedy", "name"), [(True, "Phi-3 Some Model"), (False, "Some Model")])
def test_phi3_is_named_where_its_markup_takes_spaces(greedy: bool, name: str, folder: Path):
    tiny.save("phi3", folder)
    texts = ["<unk>", "<s>", "</s>", "▁", *map(chr, range(97, 123))]
    types = [2, 3, 3] + [1] * 27
    vocabulary = {"tokens": texts, "scores": [0.0] * 30, "token_type": types}
    proto = folders.proto_of({f"tokenizer.ggml.{key}": value for key, value in vocabulary.items()})
    (folder / "tokenizer.model").write_bytes(proto)
    added = {"30": {"content": "<|endoftext|>", "special": True}}
    added["31"] = {"content": "<|user|>", "special": True, "rstrip": greedy}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    assert said(folder)["general.name"] == name


def test_an_unknown_architecture_names_the_nearest(folder: Path):
    make("qwen3", folder, model_type="qwen33")
    with pytest.raises(UnsupportedArchitecture, match="the nearest is qwen3"):
        said(folder)


def test_a_gguf_file_is_no_source(tmp_path: Path):
    path = tiny.write_gguf(tiny.build("llama"), "llama", tmp_path / "tiny.gguf")
    with pytest.raises(NotSupported, match="GGUF file already"):
        said(path)


@pytest.mark.parametrize("method", ["fp8", "gptq", "awq", "bitsandbytes"])
def test_quantized_folders_are_refused_by_their_method(method: str, folder: Path):
    make("llama", folder, quantization_config={"quant_method": method})
    with pytest.raises(NotSupported, match=method):
        said(folder)


def test_a_type_that_is_not_converted_names_its_tensor(folder: Path):
    make("llama", folder)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({**tensors, name: tensors[name].to(torch.float8_e4m3fn)}, folder / "model.safetensors")
    with pytest.raises(NotSupported, match=r"layers\.1\.mlp\.up_proj.*f8_e4m3"):
        said(folder)


def test_missing_and_superfluous_tensors(folder: Path):
    make("llama", folder)
    tensors = load_file(folder / "model.safetensors")
    missing = {name: tensor for name, tensor in tensors.items() if "up_proj" not in name}
    save_file(missing, folder / "model.safetensors")
    with pytest.raises(MissingTensor, match="up_proj"):
        said(folder)
    save_file({**tensors, "model.layers.0.adapter.weight": torch.ones(2)}, folder / "model.safetensors")
    with pytest.raises(UnexpectedTensor, match="adapter"):
        said(folder)


def test_a_missing_part_is_named(folder: Path):
    tiny.save("llama", folder, max_shard_size="100KB")
    folders.add_tokenizer(folder)
    part = sorted(folder.glob("*.safetensors"))[1]
    assert said(folder)["llama.block_count"] == 2
    part.unlink()
    with pytest.raises(ModelNotFound, match=part.name):
        said(folder)


def test_no_tokenizer(folder: Path):
    tiny.save("llama", folder)
    with pytest.raises(TokenizerError, match="has no tokenizer"):
        said(folder)


def test_more_tokens_than_embeddings(folder: Path):
    tiny.save("llama", folder)
    folders.add_tokenizer(folder, vocab_size=tiny.VOCAB + 2)
    with pytest.raises(TokenizerError, match="130 tokens, and the model has embeddings for 128"):
        said(folder)


def test_what_gguf_cannot_say_is_refused(folder: Path):
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "truncate": False}
    make("llama", folder, rope_parameters={**yarn, "original_max_position_embeddings": 64})
    with pytest.raises(NotSupported, match="rope"):
        said(folder)


def test_longrope_outside_phi3_is_refused(folder: Path):
    rope = json.loads(json.dumps(tiny.TINY["phi3-longrope"].config["rope_parameters"]))
    make("llama", folder, rope_parameters=rope)
    with pytest.raises(NotSupported, match="rope"):
        said(folder)
