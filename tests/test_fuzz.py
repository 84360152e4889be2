"""A damaged GGUF gives one of our errors or a working model: no traceback, no hang, no runaway memory."""

from __future__ import annotations

import random
import resource
import struct

import pytest
import tiny
from mull.chat.request import ChatRequest
from mull.errors import MullError
from mull.llm import LLM
from mull.runtime.load_options import LoadOptions

NUM_MUTATIONS = 2000
EXTREMES = [0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1]
MEMORY = 6 << 30


@pytest.fixture(scope="module", autouse=True)
def limited_memory():
    """Let the process take little more than it has: who asks for gigabytes gets a MemoryError, which fails."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "tiny.gguf"
    tiny.write_gguf(tiny.build("qwen3"), "qwen3", path)
    return path.read_bytes()


def header_size(data):
    """Return where the tensors' bytes begin: all before it is header, metadata, names, shapes and offsets."""
    return len(data) - sum(t.nbytes for t in tiny.gguf_tensors(tiny.build("qwen3"), "qwen3").values())


def mutated(data, end, rng):
    """Return a copy with one to three faults before `end`: bytes, numbers, moved or missing pieces."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(end)
        kind = rng.randrange(5)
        if kind == 0:
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[at] = rng.randrange(256)
        elif kind == 2:
            size = rng.choice(["<I", "<Q"])
            number = rng.choice(EXTREMES) & ((1 << 8 * struct.calcsize(size)) - 1)
            damaged[at : at + struct.calcsize(size)] = struct.pack(size, number)
        elif kind == 3:
            del damaged[at : at + rng.randint(1, 64)]
        else:
            damaged = damaged[: rng.randrange(len(damaged))]
        if not damaged:
            break
        end = min(end, len(damaged))
    return bytes(damaged)


def attempt(path):
    """Load and ask; return whether it worked. Anything but a MullError of one line is a failure."""
    refusal = None
    try:
        with LLM.open(str(path), LoadOptions(num_ctx=32, threads=1)) as model:
            list(model.chat(ChatRequest(raw="ab", options={"num_predict": 2})))
    except MullError as error:
        refusal = error.message
    assert refusal != ""
    assert "\n" not in (refusal or "")
    return refusal is None


def test_damaged_files_are_refused_in_one_line(original, tmp_path):
    end = header_size(original)
    path = tmp_path / "damaged.gguf"
    rng = random.Random(1)
    worked = 0
    for _ in range(NUM_MUTATIONS):
        path.write_bytes(mutated(original, end, rng))
        worked += attempt(path)
    assert 0 < worked < NUM_MUTATIONS


@pytest.mark.parametrize("value", EXTREMES)
def test_extreme_numbers_in_every_setting(original, value, tmp_path):
    path = tmp_path / "damaged.gguf"
    for key in (b"qwen3.block_count", b"qwen3.embedding_length", b"qwen3.context_length", b"qwen3.vocab_size",
                b"qwen3.attention.head_count", b"qwen3.attention.head_count_kv", b"qwen3.attention.key_length",
                b"qwen3.feed_forward_length", b"qwen3.rope.dimension_count", b"tokenizer.ggml.eos_token_id",
                b"tokenizer.ggml.bos_token_id"):  # fmt: skip
        at = original.index(key) + len(key) + 4
        path.write_bytes(original[:at] + struct.pack("<I", value & 0xFFFFFFFF) + original[at + 4 :])
        attempt(path)
