"""Converted folders load in llama.cpp, which computes our logits of them and makes our choices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folders
import numpy as np
import pytest
import tiny
import torch
from mull.chat.request import ChatRequest
from mull.chat.stream import Done
from mull.llm import LLM
from mull.models.checkpoint.gguf_writer import write_gguf
from mull.models.checkpoint.open import open_checkpoint
from mull.models.convert.convert import convert
from mull.runtime.load_options import LoadOptions
from peers.binding import Peer

pytestmark = pytest.mark.peer

NUM_CTX = 256
NUM_NEW = 48
PROMPT = "the quick brown fox jumps over the lazy dog, then thinks"
# llama.cpp has no window for these architectures, and no layers without experts among others.
BEYOND_LLAMA_CPP = {"mistral", "qwen2-window", "qwen3moe-mixed"}
# Its GGUF has no rule that depends on the length: alike as long as the text is one that the model was trained on.
SHORT = {"llama-dynamic": 32}
NAMES = [name for name in tiny.TINY if name not in BEYOND_LLAMA_CPP]


def converted(name: str, folder: Path, **changes: Any) -> tuple[Path, Path]:
    """Save a tiny model and its conversion; returns the folder and the file."""
    source = folder / "model"
    source.mkdir()
    tiny.save(name, source)
    folders.add_tokenizer(source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | changes))
    path = folder / "model.gguf"
    with open_checkpoint(source) as checkpoint:
        made = convert(checkpoint, "f32")
        write_gguf(path, made.metadata, made.new_tensors())
    return source, path


def tolerance(name: str) -> float:
    """Return by how much logits may differ: float32's rounding, but llama.cpp looks GELU up in a float16 table."""
    return 1e-2 if name.startswith("gemma") else 5e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_same_logits_and_greedy_ids(name: str, tmp_path: Path) -> None:
    source, path = converted(name, tmp_path)
    num_ctx = SHORT.get(name, NUM_CTX)
    ids = torch.randint(
        3, tiny.VOCAB, (min(40, num_ctx),), generator=torch.Generator().manual_seed(5)
    ).tolist()
    options = LoadOptions(dtype="f32", num_ctx=num_ctx, threads=1)
    with LLM.open(str(source), options) as llm, Peer(path, num_ctx) as peer:
        np.testing.assert_allclose(peer.logits(ids), llm.logits(ids).numpy(), atol=tolerance(name), rtol=0)
        prompt = PROMPT[: num_ctx // 3]
        start = peer.tokenize(prompt, special=True, parse_special=False)
        assert start == llm.tokenizer.encode(prompt)
        count = min(NUM_NEW, num_ctx - len(start) - 1)
        expected = peer.greedy(start, count, llm.tokenizer.eos_ids)
        choices = {"temperature": 0, "num_predict": count, "ignore_eos": True}
        *_, done = llm.chat(ChatRequest(raw=prompt, options=choices))
    assert isinstance(done, Done)
    # from where two tokens are as likely as each other, both are right
    n = next((i for i, lead in enumerate(expected.margins) if lead < 4 * tolerance(name)), count)
    assert n >= 8
    assert list(done.token_ids)[:n] == expected.ids[:n]


def test_mistral_without_its_window(tmp_path: Path) -> None:
    source, path = converted("mistral", tmp_path, sliding_window=None)
    ids = torch.randint(3, tiny.VOCAB, (40,), generator=torch.Generator().manual_seed(5)).tolist()
    with (
        LLM.open(str(source), LoadOptions(dtype="f32", num_ctx=NUM_CTX, threads=1)) as llm,
        Peer(path) as peer,
    ):
        np.testing.assert_allclose(peer.logits(ids), llm.logits(ids).numpy(), atol=5e-5, rtol=0)


@pytest.mark.parametrize("add_space", [True, False])
def test_a_sentencepiece_folder_is_cut_as_by_llama_cpp(add_space: bool, tmp_path: Path) -> None:
    import vocabularies

    vocabulary = vocabularies.sentencepiece()
    size = len(vocabulary["tokenizer.ggml.tokens"])
    model = tiny.TINY["llama"]
    source = tmp_path / "model"
    source.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.TINY, "spoken", tiny.Tiny(model.hf, model.gguf, {"vocab_size": size + 3}))
        tiny.save("spoken", source)
    (source / "tokenizer.model").write_bytes(folders.proto_of(vocabulary, add_space=add_space))
    config = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "added_tokens_decoder": {str(size): {"content": "<x>"}},
    }
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    path = tmp_path / "model.gguf"
    with open_checkpoint(source) as checkpoint:
        made = convert(checkpoint)
        write_gguf(path, made.metadata, made.new_tensors())
    with (
        LLM.open(str(source), LoadOptions(dtype="f32", num_ctx=64, threads=1)) as llm,
        Peer(path, 64) as peer,
    ):
        for text in ("hello", " hello wow", "<b>hello<|user|> <x>", "é世\U0001f642", "a    b"):
            ids = peer.tokenize(text, special=True, parse_special=True)
            assert llm.tokenizer.encode(text, parse_special=True) == ids, text
