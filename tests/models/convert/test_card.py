"""Names, sizes, licences and recommended sampling of a folder, as llama.cpp's own package reads them."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
from mull.models.convert.card import ModelName, general_keys, parse_name, read_card, sampling_keys, size_label
from mull.models.convert.tensors import Source
from mull.quant.dtype import dtype

CARD = """---
license: apache-2.0
license_link: 'https://example.org/LICENSE'
language:
- en
- "de"
tags: [chat, small]
pipeline_tag: text-generation
base_model:
  - meta-llama/Llama-3.2-1B-Instruct
datasets:
- org/some-data-v2
model-index:
- name: nested
  results: []
---
# Title
license: not-this
"""

NAMES = {
    "Qwen/Qwen3-0.6B": 6e8,
    "meta-llama/Llama-3.2-1B-Instruct": 1.2e9,
    "mistralai/Mistral-7B-Instruct-v0.3": 7.2e9,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 4.6e10,
    "google/gemma-2-27b-it": 2.7e10,
    "microsoft/Phi-3-mini-128k-instruct": 3.8e9,
    "microsoft/phi-4": 1.4e10,
    "allenai/OLMo-2-1124-7B-Instruct": 7e9,
    "Qwen/Qwen3-30B-A3B": 3e10,
    "HuggingFaceTB/SmolLM2-135M": 1.35e8,
    "ibm-granite/granite-3.3-2b-instruct": 2.5e9,
    "Nous-Hermes-2-Mixtral-8x7B-DPO": 4.6e10,
    "phi-2-bf16": 2.7e9,
    "tiny": 1e5,
    "my model": 1e5,
}


def source(name: str, *shape: int) -> Source:
    def nothing() -> None:
        raise AssertionError("nothing is loaded for its size")

    return Source(name, shape, dtype("f32"), nothing, nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_apart_as_by_gguf(name: str):
    full, organization, base, finetune, version, size = gguf.Metadata.get_model_id_components(
        name, int(NAMES[name])
    )
    expected = ModelName(full, organization or "", base or "", size or "", finetune or "", version or "")
    assert parse_name(name, int(NAMES[name])) == expected
    assert parse_name(name).title == gguf.Metadata.id_to_title(full)


def test_a_card(tmp_path: Path):
    (tmp_path / "README.md").write_text(CARD)
    keys = {
        key: value.value for key, value in general_keys(tmp_path, {"_name_or_path": "me/Mine-2B"}, []).items()
    }
    assert keys.pop("general.size_label") == "2B"
    assert keys == {
        "general.type": "model",
        "general.name": "Mine 2B",
        "general.organization": "Me",
        "general.basename": "Mine",
        "general.license": "apache-2.0",
        "general.license_link": "https://example.org/LICENSE",
        "general.languages": ["en", "de"],
        "general.tags": ["chat", "small", "text-generation"],
        "general.base_model.count": 1,
        "general.base_model.0.name": "Llama 3.2 1B Instruct",
        "general.base_model.0.organization": "Meta Llama",
        "general.base_model.0.repo_url": "https://huggingface.co/meta-llama/Llama-3.2-1B-Instruct",
        "general.dataset.count": 1,
        "general.dataset.0.name": "Some Data v2",
        "general.dataset.0.organization": "Org",
        "general.dataset.0.version": "v2",
        "general.dataset.0.repo_url": "https://huggingface.co/org/some-data-v2",
    }


@pytest.mark.parametrize("text", ["", "# no header\n", "---\nnever: ends\n", "\x00\xff"])
def test_no_card(text: str, tmp_path: Path):
    assert read_card(tmp_path) == {}
    (tmp_path / "README.md").write_text(text, "latin-1")
    assert read_card(tmp_path) == {}


def test_the_name_of_a_cached_snapshot(tmp_path: Path):
    folder = tmp_path / "models--org--Some-1B" / "snapshots" / "0123abcd"
    folder.mkdir(parents=True)
    assert general_keys(folder, {}, [])["general.name"].value == "Some 1B"


def test_size_labels():
    assert size_label([source("token_embd.weight", 1000, 100)]) == "100K"
    assert size_label([source("a", 32000, 4096), source("b", 1600, 4096, 1024)]) == "6.8B"
    experts = [source("a", 1000, 1000), source("blk.0.ffn_up_exps.weight", 8, 2000, 3000)]
    assert size_label(experts) == "8x7.0M"


def test_sampling():
    generation = {
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 1,
        "repetition_penalty": 1.1,
        "do_sample": True,
        "min_p": None,
    }
    found = {key: (value.value, value.kind.name) for key, value in sampling_keys(generation).items()}
    assert found == {
        "general.sampling.temp": (0.6, "FLOAT32"),
        "general.sampling.top_k": (20, "INT32"),
        "general.sampling.top_p": (1.0, "FLOAT32"),
        "general.sampling.penalty_repeat": (1.1, "FLOAT32"),
    }
    assert sampling_keys({"top_k": float("nan"), "temperature": True, "min_p": "x", "top_p": 1e30}) == {}
