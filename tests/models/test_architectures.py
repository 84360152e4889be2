"""Every architecture's logits equal transformers', from safetensors and from GGUF, in any chunks."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
from mull.kernels.cpu.native import instruction_sets
from mull.kernels.device import choose_device
from mull.models.batch import Batch, Span
from mull.models.cache import CacheTypes, KVCache, NativeCache
from mull.models.checkpoint.open import open_checkpoint
from mull.models.load import Placement, architectures, load_model
from safetensors.torch import load_file, save_file

DEVICE = torch.device("cpu")
COMPUTED_BY = [None, *instruction_sets()]
LENGTHS = {"llama-dynamic": 48, "phi3-longrope": 96}


def run(path, ids, chunks, context_length, isa=None):
    """Return float32 logits [tokens, vocab] of ids, computed chunk by chunk over scattered cache blocks."""
    types = CacheTypes("f32", "f32")
    with open_checkpoint(path) as checkpoint:
        model = load_model(checkpoint, Placement(DEVICE, torch.float32, isa=isa), context_length)
        if isa is None:
            cache = KVCache(model.cache_spec(), 64, 8, types, DEVICE)
        else:
            assert model.program is not None
            cache = NativeCache(model.cache_spec(), 64, types, isa)
        blocks = [(7 * i + 3) % 64 for i in range(-(-len(ids) // cache.block_size))]
        rows, at = [], 0
        with torch.inference_mode():
            for n in chunks:
                span = Span(ids[at : at + n], at, blocks, n)
                rows.append(model.step([span], cache))
                at += n
        return torch.cat(rows)


def prompt(length):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(3, tiny.VOCAB, (length,), generator=generator).tolist()


def chunkings(length):
    yield [length]
    yield [1] * length
    yield [5, 1, 13, 2, length - 21]


@pytest.mark.parametrize("isa", COMPUTED_BY, ids=lambda isa: isa.name if isa else "torch")
@pytest.mark.parametrize("name", tiny.TINY)
def test_safetensors_logits_equal_transformers(name, isa, tmp_path):
    model = tiny.save(name, tmp_path)
    length = LENGTHS.get(name, 40)
    ids = prompt(length)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0]
    assert expected.std() > 0.1
    for chunks in chunkings(length):
        torch.testing.assert_close(run(tmp_path, ids, chunks, length, isa), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("isa", COMPUTED_BY[:2], ids=lambda isa: isa.name if isa else "torch")
@pytest.mark.parametrize("name", [name for name, t in tiny.TINY.items() if t.gguf])
def test_gguf_logits_equal_transformers(name, isa, tmp_path):
    model = tiny.build(name)
    path = tiny.write_gguf(model, tiny.TINY[name].gguf, tmp_path / "tiny.gguf")
    length = LENGTHS.get(name, 40)
    ids = prompt(length)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0]
    for chunks in chunkings(length):
        torch.testing.assert_close(run(path, ids, chunks, length, isa), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("isa", instruction_sets(), ids=lambda isa: isa.name)
@pytest.mark.parametrize("name", tiny.TINY)
def test_only_some_logits_are_wanted(name, isa, tmp_path):
    tiny.save(name, tmp_path)
    length = LENGTHS.get(name, 40)
    ids, others = prompt(length), prompt(length)[::-1]
    with open_checkpoint(tmp_path) as checkpoint:
        model = load_model(checkpoint, Placement(DEVICE, torch.float32, isa=isa), length)
        cache = NativeCache(model.cache_spec(), 64, CacheTypes("f32", "f32"), isa)
    blocks, more = range(12), range(20, 32)
    with torch.inference_mode():
        assert len(model.step([Span(ids[:9], 0, blocks, 0)], cache)) == 0
        spans = [
            Span(ids[9:], 9, blocks, 3),
            Span(others[:11], 0, more, 0),
            Span(ids[:7], 0, range(40, 52), 1),
        ]
        some = model.step(spans, cache)
        last = model.step([Span(others[11:], 11, more, 2)], cache)
    expected = run(tmp_path, ids, [length], length, isa)
    torch.testing.assert_close(some, torch.cat((expected[-3:], expected[6:7])), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last, run(tmp_path, others, [length], length, isa)[-2:], atol=1e-4, rtol=1e-4)


def test_short_contexts_take_longropes_short_factors(tmp_path):
    model = tiny.save("phi3-longrope", tmp_path)
    ids = prompt(40)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(run(tmp_path, ids, [40], 64), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(run(tmp_path, ids, [40], 65), expected, atol=1e-4)


def test_sharded_safetensors_give_the_same_logits(tmp_path):
    whole, shards = tmp_path / "whole", tmp_path / "shards"
    tiny.save("llama", whole)
    tiny.save("llama", shards, max_shard_size="50KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    ids = prompt(12)
    torch.testing.assert_close(run(shards, ids, [12], 64), run(whole, ids, [12], 64), atol=0, rtol=0)


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_text_part_of_a_gemma3_that_sees(prefix, tmp_path):
    model = tiny.save("gemma3", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    moved = {name.replace("model.", prefix, 1): tensor for name, tensor in tensors.items()}
    moved["vision_tower.patch.weight"] = torch.ones(2)
    save_file(moved, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": config}))
    ids = prompt(30)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(run(tmp_path, ids, [30], 64), expected, atol=1e-4, rtol=1e-4)


def test_every_architecture_has_a_tiny_model():
    covered = {t.gguf for t in tiny.TINY.values()}
    assert set(architectures("gguf")) <= covered
    covered = {"qwen3_moe" if t.hf == "Qwen3Moe" else t.hf.lower() for t in tiny.TINY.values()} | {
        "gemma3_text"
    }
    assert set(architectures("safetensors")) <= covered


@pytest.mark.gpu
@pytest.mark.parametrize("name", tiny.TINY)
def test_cuda_logits_equal_the_cpus(name, tmp_path):
    tiny.save(name, tmp_path)
    ids = prompt(LENGTHS.get(name, 40))
    expected = run(tmp_path, ids, [len(ids)], len(ids))
    with open_checkpoint(tmp_path) as checkpoint:
        device = choose_device("cuda")
        model = load_model(checkpoint, Placement(device, torch.float32), len(ids))
        cache = KVCache(model.cache_spec(), 16, 8, CacheTypes("f32", "f32"), device)
        with torch.inference_mode():
            logits = model(Batch.of([Span(ids, 0, list(range(16)), len(ids))], cache))
    torch.testing.assert_close(logits.cpu(), expected, atol=1e-3, rtol=1e-3)
