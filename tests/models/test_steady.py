"""What a steady step computes of a sequence depends on nothing else: not on chunks, nor on who is beside it."""

from __future__ import annotations

import random

import pytest
import tiny
import torch
from mull.kernels.cpu.native import Isa, instruction_sets
from mull.kernels.cpu.program import Attention
from mull.models.base import CausalLM
from mull.models.batch import Span
from mull.models.cache import Cache, CacheTypes, KVCache, NativeCache
from mull.models.checkpoint.open import open_checkpoint
from mull.models.load import Placement, load_model

CPU = torch.device("cpu")
COMPUTED_BY = [None, *instruction_sets()[:1]]
# Plain, with experts, with a window and both caps, with rules of positions.
MODELS = ("llama", "qwen3moe", "gemma2", "gemma3", "phi3-longrope")
LENGTH = 45


def load(folder, isa: Isa | None, dtype: torch.dtype) -> tuple[CausalLM, Cache]:
    """Return a model and a cache in scattered blocks' worth of 16 bits, or as the type has it."""
    with open_checkpoint(folder) as checkpoint:
        model = load_model(checkpoint, Placement(CPU, dtype, isa=isa), 96)
    if isa is not None:
        return model, NativeCache(model.cache_spec(), 64, CacheTypes("f16", "f16"), isa)
    name = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
    return model, KVCache(model.cache_spec(), 64, 16, CacheTypes(name, name), CPU)


def run(
    model: CausalLM, cache: Cache, texts: list[list[int]], rng: random.Random, most: int
) -> list[torch.Tensor]:
    """Compute several texts side by side in random chunks; return the logits of each."""
    order = rng.sample(range(64), 64)
    blocks = [order[8 * index : 8 * index + 8] for index in range(len(texts))]
    done = [0] * len(texts)
    rows: list[list[torch.Tensor]] = [[] for _ in texts]
    with torch.inference_mode():
        while any(at < len(text) for at, text in zip(done, texts, strict=True)):
            counts = [min(rng.randint(0, most), len(text) - at) for at, text in zip(done, texts, strict=True)]
            taken = [index for index, count in enumerate(counts) if count]
            spans = [
                Span(texts[i][done[i] : done[i] + counts[i]], done[i], blocks[i], counts[i]) for i in taken
            ]
            if not spans:
                continue
            found = model.step(spans, cache, way=Attention.STEADY).clone()
            for i, part in zip(taken, found.split([counts[i] for i in taken]), strict=True):
                rows[i].append(part)
                done[i] += counts[i]
    return [torch.cat(each) for each in rows]


@pytest.mark.parametrize("isa", COMPUTED_BY, ids=lambda isa: isa.name if isa else "torch")
@pytest.mark.parametrize("name", MODELS)
def test_chunks_and_company_change_no_bit(name, isa, tmp_path):
    tiny.save(name, tmp_path)
    dtype = torch.float32 if isa or name != "llama" else torch.bfloat16
    model, cache = load(tmp_path, isa, dtype)
    rng = random.Random(3)
    texts = [[rng.randrange(3, tiny.VOCAB) for _ in range(length)] for length in (LENGTH, 5, 33)]
    together = run(model, cache, texts, rng, 20)
    for most in (1, LENGTH):
        for text, expected in zip(texts, together, strict=True):
            assert torch.equal(run(model, cache, [text], rng, most)[0], expected)


@pytest.mark.parametrize("name", MODELS)
def test_where_torch_computes_the_numbers_are_those_of_any_step(name, tmp_path):
    tiny.save(name, tmp_path)
    model, cache = load(tmp_path, None, torch.float32)
    text = [random.Random(4).randrange(3, tiny.VOCAB) for _ in range(LENGTH)]
    span = Span(text, 0, range(8), LENGTH)
    with torch.inference_mode():
        steady = model.step([span], cache, way=Attention.STEADY)
        some = Span(text[40:], 40, range(8), 3)
        assert torch.equal(model.step([some], cache, way=Attention.STEADY), steady[-3:])
        torch.testing.assert_close(steady, model.step([span], cache), atol=1e-4, rtol=1e-4)
