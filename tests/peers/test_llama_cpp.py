"""Every GGUF architecture gives llama.cpp's logits and greedy choices in float32, and so does the demo model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mull.chat.request import ChatRequest
from mull.chat.stream import Done
from mull.llm import LLM
from mull.models.pocket import model_path
from mull.runtime.load_options import LoadOptions
from peers.binding import Greedy, Peer
from tiny import Tiny

pytestmark = pytest.mark.peer

NUM_CTX = 256
NUM_NEW = 64

# The converter calls Mistral and Mixtral `llama`.
MODELS = {name: t.gguf for name, t in tiny.TINY.items() if t.gguf} | {"mistral": "llama", "mixtral": "llama"}

LONGROPE = {
    "original_max_position_embeddings": 256,
    "max_position_embeddings": 1024,
    "sliding_window": None,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 256,
        "short_factor": [1.0 + 0.1 * i for i in range(8)],
        "long_factor": [1.0 + 0.5 * i for i in range(8)],
    },
}
YARN = {
    "max_position_embeddings": 32768,
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
    },
}

PROMPTS = [
    "the quick brown fox jumps over the lazy dog, then thinks",
    "It was the best of times, it was the worst of times;",
]


def tolerance(name: str) -> float:
    """Return by how much logits may differ: float32's rounding, but llama.cpp looks GELU up in a float16 table."""
    return 1e-2 if name.startswith("gemma") else 5e-5


def random_ids(length: int) -> list[int]:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(3, tiny.VOCAB, (length,), generator=generator).tolist()


def compare_logits(path: Path, name: str, ids: list[int], num_ctx: int = NUM_CTX) -> np.ndarray:
    """Check our logits of `ids` against llama.cpp's, and return them."""
    with Peer(path, num_ctx) as peer:
        expected = peer.logits(ids)
    with LLM.open(str(path), LoadOptions(dtype="f32", num_ctx=num_ctx, threads=1)) as llm:
        logits = llm.logits(ids).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits, expected, atol=tolerance(name), rtol=0)
    return logits


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal(name: str, tmp_path: Path) -> None:
    path = tiny.write_gguf(tiny.build(name), MODELS[name], tmp_path / "tiny.gguf")
    compare_logits(path, name, random_ids(40))


def test_yarn_ramps_as_in_llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiny.TINY, "yarn", Tiny("Llama", "llama", YARN))
    path = tiny.write_gguf(tiny.build("yarn"), "llama", tmp_path / "tiny.gguf")
    compare_logits(path, "yarn", random_ids(120))


def test_longrope_goes_by_the_context_as_in_llama_cpp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny.TINY, "longrope", Tiny("Phi3", "phi3", LONGROPE))
    path = tiny.write_gguf(tiny.build("longrope"), "phi3", tmp_path / "tiny.gguf")
    short = compare_logits(path, "phi3", random_ids(40), 256)
    long = compare_logits(path, "phi3", random_ids(40), 512)
    assert not np.allclose(short, long, atol=1e-2)


def ours(llm: LLM, prompt: str, count: int, *, ignore_eos: bool = True) -> list[int]:
    """Return the ids that greedy decoding gives us after a raw prompt."""
    options = {"temperature": 0, "num_predict": count, "ignore_eos": ignore_eos}
    *_, done = llm.chat(ChatRequest(raw=prompt, options=options))
    assert isinstance(done, Done)
    return list(done.token_ids)


def first_tie(greedy: Greedy, margin: float) -> int:
    """Return how many choices llama.cpp makes before one that rounding may turn over."""
    return next((i for i, lead in enumerate(greedy.margins) if lead < margin), len(greedy.margins))


@pytest.mark.parametrize("name", MODELS)
def test_greedy_ids_equal(name: str, tmp_path: Path) -> None:
    path = tiny.write_gguf(tiny.build(name), MODELS[name], tmp_path / "tiny.gguf")
    compared = 0
    with (
        Peer(path) as peer,
        LLM.open(str(path), LoadOptions(dtype="f32", num_ctx=NUM_CTX, threads=1)) as llm,
    ):
        for prompt in PROMPTS:
            start = peer.tokenize(prompt, special=True, parse_special=False)
            expected = peer.greedy(start, NUM_NEW, llm.tokenizer.eos_ids)
            n = first_tie(expected, tolerance(name))
            assert ours(llm, prompt, NUM_NEW)[:n] == expected.ids[:n]
            compared += n
    assert compared >= NUM_NEW, "near ties everywhere: this model compares nothing"


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_greedy_ids_equal_after_long_prompts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt takes several chunks, and its continuation finds most of itself in the cache."""
    longer = {**tiny.TINY[name].config, "max_position_embeddings": 2048}
    monkeypatch.setitem(tiny.TINY, name, replace(tiny.TINY[name], config=longer))
    path = tiny.write_gguf(tiny.build(name), MODELS[name], tmp_path / "tiny.gguf")
    prompt = (PROMPTS[0] + PROMPTS[1]) * 12
    with (
        Peer(path, 2048) as peer,
        LLM.open(str(path), LoadOptions(dtype="f32", num_ctx=2048, threads=1)) as llm,
    ):
        for text in (prompt, prompt + PROMPTS[1]):
            start = peer.tokenize(text, special=True, parse_special=False)
            assert len(start) > 1200
            expected = peer.greedy(start, 24, llm.tokenizer.eos_ids)
            n = first_tie(expected, tolerance(name))
            assert n >= 8
            assert ours(llm, text, 24)[:n] == expected.ids[:n]


POCKET = [
    "What is 347 + 685?",
    "What is 20458 + 9967?",
    "Hello!",
    "A ball is under cup 2. Swap cups 2 and 4. Swap cups 1 and 4. Where is the ball?",
]


@pytest.fixture(scope="module")
def pocket() -> Iterator[Peer]:
    """Return the demo model in llama.cpp."""
    if not model_path().is_file():
        pytest.skip("the demo model is not here")
    with Peer(model_path(), 1024) as peer:
        yield peer


@pytest.mark.parametrize("dtype", ["f32", "auto"])
def test_the_demo_models_greedy_ids_equal(dtype: str, pocket: Peer) -> None:
    compared = 0
    with LLM.open(str(model_path()), LoadOptions(dtype=dtype, num_ctx=1024, threads=1)) as llm:
        for question in POCKET:
            prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
            ids = ours(llm, prompt, 192, ignore_eos=False)
            start = pocket.tokenize(prompt, special=True, parse_special=True)
            expected = pocket.greedy(start, len(ids))
            # llama.cpp rounds activations to 8 bits, which moves these logits by tenths.
            n = first_tie(expected, 0.3)
            assert ids[:n] == expected.ids[:n]
            compared += n
    assert compared >= 100
