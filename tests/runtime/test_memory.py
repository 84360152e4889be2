"""What a model may take, and what it is told when it wants more."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mull.errors import OutOfMemory
from mull.models.cache import CacheTypes
from mull.models.config import parse_config
from mull.runtime.memory import RESERVE, plan_memory

MB = 1 << 20
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 128}
PER_TOKEN = 2 * 2 * 64 * 2


def plan(free, num_ctx=None, *, stored=100 * MB, held=400 * MB, mapped=True, packed=None):
    """Plan for q4_k weights of `stored` bytes, `held` as bf16, and a context of up to 4096 tokens."""
    checkpoint = SimpleNamespace(
        nbytes=stored,
        dtype_counts=lambda: {"q4_k": held // 2},
    )
    config = parse_config({**SIZES, "max_position_embeddings": 4096})
    free += RESERVE
    cache = CacheTypes("f16", "f16")
    return plan_memory(
        checkpoint, config, torch.bfloat16, free, num_ctx, cache=cache, mapped=mapped, packed=packed or {}
    )


def test_weights_that_fit_are_held():
    found = plan(free=1000 * MB)
    assert (found.hold, found.weight_bytes, found.context_length) == (True, 400 * MB, 4096)
    assert found.cache_bytes == 4096 * PER_TOKEN
    assert found.limited_by is None


def test_weights_that_do_not_fit_stay_as_stored():
    found = plan(free=101 * MB, held=1000 * MB)
    assert (found.hold, found.weight_bytes, found.context_length) == (False, 100 * MB, 4096)


def test_weights_that_kernels_read_are_packed_in_their_own_bits():
    found = plan(free=201 * MB, held=400 * MB, packed={"q4_k": 0.5})
    assert (found.hold, found.weight_bytes, found.context_length) == (True, 100 * MB, 4096)
    found = plan(free=101 * MB, held=1800 * MB, packed={"q4_k": 0.5})
    assert (found.hold, found.weight_bytes) == (False, 100 * MB)


def test_a_device_holds_stored_weights_in_its_own_memory():
    found = plan(free=101 * MB, held=1000 * MB, mapped=False)
    assert (found.hold, found.context_length, found.limited_by) == (False, 1024, "memory")
    with pytest.raises(OutOfMemory, match="GB are free beside the weights"):
        plan(free=99 * MB, held=1000 * MB, mapped=False)


def test_a_context_that_does_not_fit_says_what_does():
    with pytest.raises(OutOfMemory) as caught:
        plan(free=401 * MB, num_ctx=4096)
    assert caught.value.hint == "--num-ctx 2048 fits"
