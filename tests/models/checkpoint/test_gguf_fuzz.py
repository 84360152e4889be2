"""Damaged GGUF files open or fail with one of our errors, whatever the damage."""

from __future__ import annotations

import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf_files import random_blocks, write_gguf
from mull.errors import MullError
from mull.models.checkpoint.open import open_checkpoint

EXTREMES = (0, 1, 2, 7, 255, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 1)
SEEDS = range(12)
MUTATIONS = 300
MAX_BYTES = 4 << 20


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> bytes:
    """A small file with every kind of metadata and several tensor types."""
    metadata = {
        "llama.block_count": 1,
        "llama.embedding_length": 32,
        "llama.attention.head_count": 4,
        "llama.rope.freq_base": 10000.0,
        "flag": True,
        "tokenizer.ggml.tokens": ["<s>", "a", "bc"],
        "tokenizer.ggml.token_type": [3, 1, 1],
        "tokenizer.ggml.scores": [0.0, -1.0, -2.0],
        "tokenizer.chat_template": "{{ x }}",
        "general.sampling.temp": 0.5,
        "general.alignment": 32,
    }
    tensors = {
        "token_embd.weight": np.ones((3, 8), dtype=np.float32),
        "a": (np.ones((2, 32), dtype=np.float32), "q8_0"),
        "b": (random_blocks("q4_k", 1).reshape(1, -1), "q4_k"),
    }
    return write_gguf(tmp_path_factory.mktemp("fuzz") / "m.gguf", metadata, tensors).read_bytes()


def use(path: Path) -> str | None:
    """Do everything a reader does with a checkpoint; return our error's message, or None if all went well."""
    try:
        with open_checkpoint(path) as checkpoint:
            dict(checkpoint.metadata)
            _ = (checkpoint.architecture, checkpoint.generation, checkpoint.chat_template)
            for _, weights in checkpoint.tensors():
                weights.dequantize(torch.float32)
            _ = checkpoint.config
    except MullError as error:
        return error.message
    return None


def check(messages: set[str | None], path: Path) -> None:
    """Demand that some damage was harmless, and that every message is one line that names the file."""
    assert None in messages
    assert len(messages) > 5
    for message in messages - {None}:
        assert "\n" not in message
        assert str(path) in message or "cannot be read" in message


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Damage the header in one to three ways."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data[at : at + 8] = struct.pack("<Q", rng.choice(EXTREMES))
            case 3:
                data[at : at + 4] = struct.pack("<I", rng.choice(EXTREMES) & 0xFFFFFFFF)
            case 4:
                del data[at : at + rng.randint(1, 16)]
            case 5:
                data[at:at] = data[at : at + rng.randint(1, 40)]
    return bytes(data)


def test_the_file_is_sound(sound, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(sound)
    assert use(path) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_mutations(sound, tmp_path, seed):
    rng = random.Random(seed)
    path = tmp_path / "m.gguf"
    messages: set[str | None] = set()
    tracemalloc.start()
    try:
        for _ in range(MUTATIONS):
            path.write_bytes(mutate(sound, rng))
            messages.add(use(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    check(messages, path)
    assert peak < MAX_BYTES


def test_extreme_numbers_at_every_byte_of_the_header(sound, tmp_path):
    path = tmp_path / "m.gguf"
    end = len(sound) - 96 - 96 - 160
    messages: set[str | None] = set()
    for at in range(4, end):
        for value in (0, 1 << 40, (1 << 64) - 1):
            path.write_bytes(sound[:at] + struct.pack("<Q", value) + sound[at + 8 :])
            messages.add(use(path))
    check(messages, path)


def test_truncation_at_every_byte(sound, tmp_path):
    path = tmp_path / "m.gguf"
    last = len(sound.rstrip(b"\0"))
    for length in range(len(sound)):
        path.write_bytes(sound[:length])
        assert use(path) is not None or length >= last
