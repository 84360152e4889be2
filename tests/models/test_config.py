"""Configurations, sound and broken: a broken one is an error that names what is wrong, never a crash."""

from __future__ import annotations

import copy
import random
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from mull.errors import CheckpointError, CorruptFile, MullError, NotSupported
from mull.kernels.device import choose_device
from mull.models.base import registered
from mull.models.checkpoint.neutral import neutral_config
from mull.models.config import parse_config
from mull.models.layers.rope import Rotary
from mull.models.load import find_architecture, model_config

CPU = choose_device("cpu")
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 128}
BROKEN: tuple[Any, ...] = (
    None, True, 0, 1, -1, 3, 0.5, -0.5, 1e-30, 1e300, float("nan"), float("inf"), 10**400, 2**31 - 1, "", "many",
    [], [1], [None], [[1]], ["sliding_attention"], {}, {"a": 1}, {"full_attention": None},
)  # fmt: skip
METADATA: dict[str, Any] = {
    "embedding_length": 64, "block_count": 2, "attention.head_count": 4, "attention.head_count_kv": [2, 2],
    "attention.key_length": 16, "feed_forward_length": 96, "context_length": 256, "vocab_size": 128,
    "attention.layer_norm_rms_epsilon": 1e-6, "attention.sliding_window": 16,
    "attention.sliding_window_pattern": [True, False], "attn_logit_softcapping": 5.0, "embedding_scale": 2.0,
    "logit_scale": 2.0, "expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 48,
    "rope.freq_base": 10000.0, "rope.freq_base_swa": 10000.0, "rope.dimension_count": 8,
    "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 64,
    "rope.scaling.attn_factor": 1.0, "rope.scaling.yarn_beta_fast": 32.0, "rope.scale_linear": 1.0,
}  # fmt: skip


def checkpoint(config: dict[str, Any], name: str, file_format: str) -> Any:
    """Return what of a checkpoint a configuration is read from."""
    return SimpleNamespace(
        config=config, format=file_format, architecture=name, has=lambda name: False, path=Path("model")
    )


def use(config: dict[str, Any], name: str, file_format: str) -> None:
    """Read a configuration as loading does, and compute the first angles."""
    parsed = model_config(checkpoint(config, name, file_format))
    for rope in filter(None, (parsed.rope, parsed.local_rope)):
        tables = Rotary(rope, min(parsed.max_positions, 4096), CPU).tables(torch.arange(4))
        assert all(table.isfinite().all() for table in tables)


def mutate(config: dict[str, Any], rng: random.Random) -> None:
    """Break one entry, perhaps one within an entry."""
    key = rng.choice(list(config))
    value = config[key]
    if isinstance(value, dict) and value and rng.random() < 0.8:
        mutate(value, rng)
    elif rng.random() < 0.1:
        del config[key]
    else:
        config[key] = copy.deepcopy(rng.choice(BROKEN))


def huggingface(name: str) -> tuple[str, dict[str, Any]]:
    find_architecture(checkpoint({}, "llama", "safetensors"))
    words = {"Qwen3Moe": "qwen3_moe", "Gemma3": "gemma3_text"}
    hf = tiny.TINY[name].hf
    extra = {"rope_local_base_freq": 10000.0, "layer_types": None, "rope_scaling": {}, "head_dim": 16}
    return words.get(hf, hf.lower()), {**tiny.BASE, **extra, **tiny.TINY[name].config}


@pytest.mark.parametrize("name", tiny.TINY)
def test_a_broken_config_json_is_an_error_of_ours(name):
    model_type, sound = huggingface(name)
    use(sound, model_type, "safetensors")
    rng = random.Random(name)
    for _ in range(150):
        config = copy.deepcopy(sound)
        for _ in range(rng.randint(1, 2)):
            mutate(config, rng)
        with suppress(MullError):
            use(config, model_type, "safetensors")


def test_broken_metadata_is_an_error_of_ours():
    find_architecture(checkpoint({}, "llama", "gguf"))
    rng = random.Random(1)
    for name in sorted(registered("gguf")) * 100:
        metadata = copy.deepcopy(METADATA)
        if rng.random() < 0.5:
            metadata["rope.scaling.type"] = rng.choice(["none", "linear", "yarn", "longrope", "dynamic"])
        for _ in range(rng.randint(1, 2)):
            mutate(metadata, rng)
        named = {f"{name}.{key}": value for key, value in metadata.items()}
        with suppress(MullError):
            use(neutral_config({"general.architecture": name, **named}), name, "gguf")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"num_hidden_layers": 2**31 - 1}, "num_hidden_layers"),
        ({"num_local_experts": "eight"}, "num_local_experts"),
        ({"num_local_experts": 2, "num_experts_per_tok": 3}, "num_experts_per_tok"),
        ({"sliding_window": -4}, "sliding_window"),
        ({"sliding_window": 4, "layer_types": "full_attention"}, "layer_types"),
        ({"rope_parameters": ["yarn"]}, "rope_parameters"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor"),
        ({"rope_theta": -1}, "rope_theta"),
        ({"head_dim": 33}, "33"),
        ({"logits_scaling": 0}, "logits_scaling"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
    ],
)
def test_the_error_names_the_entry(broken, message):
    with pytest.raises(CorruptFile, match=message):
        parse_config({**SIZES, **broken})


def test_the_error_names_the_file():
    with pytest.raises(CheckpointError, match="model: the configuration has no usable 'hidden_size'"):
        model_config(checkpoint({}, "gemma2", "safetensors"))


def test_an_unknown_kind_of_layer_is_refused():
    with pytest.raises(NotSupported, match="linear_attention"):
        parse_config({**SIZES, "sliding_window": 4, "layer_types": ["full_attention", "linear_attention"]})


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("method", ["gptq", "awq", "fp8"])
def test_weights_packed_by_other_tools_are_refused_by_the_methods_name(method, nested):
    packed: dict[str, Any] = {"quantization_config": {"quant_method": method, "bits": 4}}
    config = {**SIZES, **({"text_config": packed} if nested else packed)}
    with pytest.raises(NotSupported, match=method):
        model_config(checkpoint(config, "llama", "safetensors"))


def test_a_gemma3_that_sees_leaves_transformers_defaults_unsaid():
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    text["rope_scaling"] = {"factor": 8.0, "rope_type": "linear"}  # as google/gemma-3-4b-it's config.json
    config = model_config(checkpoint({"text_config": text}, "gemma3", "safetensors"))
    assert (config.num_heads, config.num_kv_heads, config.head_dim, config.vocab_size) == (8, 4, 256, 262208)
    assert (config.rope.theta, config.rope.factor, config.max_positions) == (1e6, 8.0, 131072)
    assert config.local_rope is not None
    assert (config.local_rope.theta, config.local_rope.factor) == (1e4, 1.0)
    assert config.attention_scale == 256**-0.5


def test_early_gemma2_files_leave_the_window_and_the_caps_unsaid():
    names = ("embedding_length", "block_count", "attention.head_count", "context_length", "vocab_size")
    metadata = {"general.architecture": "gemma2", **{f"gemma2.{name}": METADATA[name] for name in names}}
    config = model_config(checkpoint(neutral_config(metadata), "gemma2", "gguf"))
    assert (config.sliding_window, config.sliding_layers) == (4096, (True, False))
    assert (config.attention_softcap, config.logit_softcap) == (50.0, 30.0)


def test_a_scaling_factor_of_zero_means_none():
    metadata = {f"llama.{key}": value for key, value in METADATA.items()}
    config = neutral_config(
        {"general.architecture": "llama", **metadata, "llama.rope.scaling.type": "linear",
         "llama.rope.scaling.factor": 0.0}
    )  # fmt: skip
    assert parse_config(config).rope.factor == 1.0
