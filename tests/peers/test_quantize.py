"""Whole files beside llama-quantize's, byte for byte, in the types whose encoding leaves no choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from gguf_files import write_gguf
from mull.models.checkpoint.gguf import GGUFCheckpoint
from mull.models.quantize import Output, make_plan, run_plan
from mull.models.quantize_source import checkpoint_source
from mull.quant.file_types import file_type
from mull.quant.mixture import MixtureOptions
from peers.binding import quantize

pytestmark = pytest.mark.peer

METADATA = {
    "general.name": "tiny",
    "llama.block_count": 2,
    "llama.context_length": 4096,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 96,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-6,
    "tokenizer.ggml.model": "none",
    "some.list": [1, 2, 3],
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "m.gguf")


def make_model(path: Path, *, scale: int = 1) -> Path:
    """Write a model of two layers, with rows of 64 and 96 weights or so many times as many."""
    rng = np.random.default_rng(0)
    arrays = {"token_embd.weight": (40, 64), "output.weight": (40, 64), "output_norm.weight": (64,)}
    for layer in range(2):
        at = f"blk.{layer}."
        arrays |= {
            f"{at}attn_norm.weight": (64,),
            f"{at}attn_q.weight": (64, 64),
            f"{at}attn_k.weight": (32, 64),
        }
        arrays |= {
            f"{at}attn_v.weight": (32, 64),
            f"{at}ffn_down.weight": (64, 96),
            f"{at}ffn_up.weight": (96, 64),
        }
    made = {
        name: rng.standard_normal([scale * size for size in shape], np.float32)
        for name, shape in arrays.items()
    }
    return write_gguf(path, METADATA, made)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16", "F32"])
def test_the_same_file(model, tmp_path, kind):
    ours, theirs = quantize_both(model, tmp_path, kind)
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0"])
def test_the_same_tensors(tmp_path, kind):
    """Beside matrices of the named type, such files hold some of other types, whose encoding leaves a choice."""
    model = make_model(tmp_path / "m.gguf", scale=8)
    ours, theirs = (GGUFReader(path).tensors for path in quantize_both(model, tmp_path, kind))
    assert [(t.name, t.tensor_type) for t in ours] == [(t.name, t.tensor_type) for t in theirs]
    named = [pair for pair in zip(ours, theirs, strict=True) if pair[0].tensor_type.name == kind]
    assert len(named) >= 10
    for own, their in named:
        assert own.data.tobytes() == their.data.tobytes(), own.name


def quantize_both(model: Path, tmp_path: Path, kind: str) -> tuple[Path, Path]:
    """Return the file that mull makes, and llama.cpp's."""
    theirs = quantize(model, tmp_path / "theirs.gguf", kind)
    with GGUFCheckpoint(model) as checkpoint:
        plan = make_plan(checkpoint_source(checkpoint), MixtureOptions(file_type(kind)))
        (ours,) = run_plan(plan, Output(tmp_path / "ours.gguf"))
    return ours, theirs
