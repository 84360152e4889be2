"""Every recipe's plan, tensor by tensor, beside `llama-quantize --dry-run`'s, on models that are little but headers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from gguf_files import raw_gguf, raw_tensor
from mull.models.checkpoint.gguf import GGUFCheckpoint
from mull.models.checkpoint.gguf_values import encode_pair
from mull.models.quantize import make_plan
from mull.models.quantize_source import checkpoint_source
from mull.quant.dtype import DTYPES
from mull.quant.file_types import FILE_TYPES, file_type
from mull.quant.imatrix import Entry, ImportanceMatrix
from mull.quant.mixture import MixtureOptions, Override

pytestmark = pytest.mark.peer

OUR_OWN = {"MXFP4"}
LINE = re.compile(
    r"\[ *\d+/ *\d+\] +(\S+) +- \[.*\], type = +(\S+), size = +[\d.]+ MiB(?: -> +[\d.]+ MiB \((\S+)\))?"
)


@dataclass(frozen=True)
class Shape:
    """The sizes of a synthetic model; a head of its own unless `tied`."""

    architecture: str
    layers: int = 32
    heads: int = 32
    kv_heads: int = 8
    hidden: int = 512
    inner: int = 1024
    experts: int = 0
    tied: bool = False
    fused: bool = False
    shared_expert: bool = False
    norms: tuple[str, ...] = ("attn_norm", "ffn_norm")


MODELS = {
    "llama": Shape("llama"),
    "llama-mha": Shape("llama", layers=26, kv_heads=32),
    "llama-gqa2": Shape("llama", layers=22, kv_heads=16, tied=True),
    "llama-70b": Shape("llama", layers=80, heads=64),
    "llama-65b": Shape("llama", layers=80, heads=64, kv_heads=64),
    "mixtral": Shape("llama", experts=8),
    "qwen2-72b": Shape("qwen2", layers=80, heads=64),
    "qwen3": Shape("qwen3", layers=28, heads=16, tied=True, norms=("attn_norm", "ffn_norm", "attn_q_norm")),
    "qwen3moe": Shape("qwen3moe", layers=48, kv_heads=4, experts=128),
    "qwen2moe": Shape("qwen2moe", layers=24, heads=16, kv_heads=16, experts=60, shared_expert=True),
    "gemma3": Shape(
        "gemma3", layers=26, heads=8, kv_heads=4, tied=True, norms=("attn_norm", "post_ffw_norm")
    ),
    "phi3": Shape("phi3", kv_heads=32, fused=True),
    "falcon": Shape("falcon", layers=60, fused=True),
    "odd-32": Shape("llama", layers=4, hidden=480, inner=992),
    "odd-1": Shape("llama", layers=4, hidden=500, inner=1024),
}


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (300, shape.hidden)
    yield "output_norm.weight", (shape.hidden,)
    if not shape.tied:
        yield "output.weight", (300, shape.hidden)
    kv = shape.hidden * shape.kv_heads // shape.heads
    for layer in range(shape.layers):
        at = f"blk.{layer}."
        for norm in shape.norms:
            yield f"{at}{norm}.weight", (shape.hidden,)
        if shape.fused:
            yield f"{at}attn_qkv.weight", (shape.hidden + 2 * kv, shape.hidden)
        else:
            yield f"{at}attn_q.weight", (shape.hidden, shape.hidden)
            yield f"{at}attn_k.weight", (kv, shape.hidden)
            yield f"{at}attn_v.weight", (kv, shape.hidden)
            yield f"{at}attn_q.bias", (shape.hidden,)
        yield f"{at}attn_output.weight", (shape.hidden, shape.hidden)
        stack, ending = ((shape.experts,), "_exps") if shape.experts else ((), "")
        if shape.experts:
            yield f"{at}ffn_gate_inp.weight", (shape.experts, shape.hidden)
        if not (shape.fused and shape.architecture == "phi3"):
            yield f"{at}ffn_gate{ending}.weight", (*stack, shape.inner, shape.hidden)
        yield f"{at}ffn_up{ending}.weight", (*stack, shape.inner, shape.hidden)
        yield f"{at}ffn_down{ending}.weight", (*stack, shape.hidden, shape.inner)
        if shape.shared_expert:
            yield f"{at}ffn_gate_shexp.weight", (shape.inner, shape.hidden)
            yield f"{at}ffn_up_shexp.weight", (shape.inner, shape.hidden)
            yield f"{at}ffn_down_shexp.weight", (shape.hidden, shape.inner)


def metadata(shape: Shape) -> Mapping[str, str | int | float]:
    own = {
        "block_count": shape.layers,
        "context_length": 4096,
        "embedding_length": shape.hidden,
        "feed_forward_length": shape.inner,
        "expert_feed_forward_length": shape.inner,
        "expert_shared_feed_forward_length": shape.inner,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.layer_norm_epsilon": 1e-6,
        "attention.sliding_window": 512,
    }
    if shape.experts:
        own |= {"expert_count": shape.experts, "expert_used_count": 2}
    pairs = {"general.architecture": shape.architecture, "general.file_type": 1}
    return pairs | {f"{shape.architecture}.{key}": value for key, value in own.items()}


def write_model(path: Path, shape: Shape) -> Path:
    """Write a model of F16 matrices and F32 vectors; the weights are a hole in the file."""
    entries, offset = [], 0
    for name, dims in tensors(shape):
        kind = DTYPES["f32" if len(dims) == 1 else "f16"]
        entries.append(raw_tensor(name, dims[::-1], kind.ggml_id or 0, offset))
        offset += -(-kind.shape_bytes(dims) // 32) * 32
    pairs = [encode_pair(key, value) for key, value in metadata(shape).items()]
    header = raw_gguf(pairs, entries)
    path.write_bytes(header)
    os.truncate(path, len(header) + offset)
    return path


@pytest.fixture(scope="session")
def tool() -> str:
    """llama-quantize: on the path, or beside the library that llama-cpp-python loads."""
    beside = os.environ.get("LLAMA_CPP_LIB_PATH", "")
    found = shutil.which("llama-quantize") or shutil.which("llama-quantize", path=beside)
    if found is None:
        pytest.skip("needs llama.cpp's llama-quantize, on the PATH or beside its library")
    return found


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("recipes")
    return {name: write_model(folder / f"{name}.gguf", shape) for name, shape in MODELS.items()}


def their_plan(tool: str, path: Path, kind: str, *options: str) -> list[tuple[str, str]]:
    command = [tool, *options, "--dry-run", str(path), kind]
    library = {"LD_LIBRARY_PATH": str(Path(tool).resolve().parent), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, env=library)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (LINE.search(line) for line in (done.stdout + done.stderr).replace("\n-> ", "").splitlines())
    return [(match[1], (match[3] or match[2]).lower()) for match in lines if match]


def our_plan(path: Path, options: MixtureOptions) -> list[tuple[str, str]]:
    with GGUFCheckpoint(path) as checkpoint:
        plan = make_plan(checkpoint_source(checkpoint), options)
        return [(choice.name, choice.target.name) for choice in plan.choices]


@pytest.mark.parametrize("kind", sorted(set(FILE_TYPES) - OUR_OWN))
@pytest.mark.parametrize("model", MODELS)
def test_the_plan_is_llama_quantizes(tool, models, model, kind):
    theirs = their_plan(tool, models[model], kind)
    assert len(theirs) == len(list(tensors(MODELS[model])))
    assert our_plan(models[model], MixtureOptions(file_type(kind))) == theirs


@pytest.fixture(scope="session")
def importance(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("importance") / "i.gguf"
    entry = Entry(np.ones((1, 512), np.float32), np.array([512]))
    ImportanceMatrix({"blk.0.attn_q.weight": entry}, ("text",), 1).write(path)
    return path


# Those whose rules ask whether there is an importance matrix, and some that do not.
@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0", "IQ4_NL", "IQ4_XS", "IQ3_XXS", "IQ2_M", "Q2_K_S", "Q4_K_M"])
@pytest.mark.parametrize("model", ["llama", "llama-mha", "mixtral", "qwen3moe"])
def test_the_plan_with_importance(tool, models, importance, model, kind):
    theirs = their_plan(tool, models[model], kind, "--imatrix", str(importance))
    assert our_plan(models[model], MixtureOptions(file_type(kind), has_imatrix=True)) == theirs


Q8, Q5_1 = DTYPES["q8_0"], DTYPES["q5_1"]
OPTIONS = {
    "pure": (("--pure",), {"pure": True}),
    "head": (("--output-tensor-type", "q8_0"), {"head": Q8}),
    "embedding": (("--token-embedding-type", "q8_0"), {"embedding": Q8}),
    "kept": (("--leave-output-tensor",), {"keep_head": True}),
    "named": (
        ("--tensor-type", r"blk\.[0-5]\.=q8_0", "--tensor-type", "attn_(v|qkv)=q5_k"),
        {"overrides": (Override.parse(r"blk\.[0-5]\.=q8_0"), Override.parse("attn_(v|qkv)=q5_k"))},
    ),
    "all": (
        (
            "--output-tensor-type",
            "q8_0",
            "--token-embedding-type",
            "q5_1",
            "--tensor-type",
            "embd|output=q4_0",
        ),
        {"head": Q8, "embedding": Q5_1, "overrides": (Override.parse("embd|output=q4_0"),)},
    ),
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["Q4_K_M", "Q3_K_L", "IQ3_XS"])
@pytest.mark.parametrize("model", ["llama", "qwen3", "qwen3moe", "gemma3", "phi3", "odd-32"])
def test_the_plan_with_options(tool, models, model, kind, options):
    words, asked = OPTIONS[options]
    theirs = their_plan(tool, models[model], kind, *words)
    assert our_plan(models[model], MixtureOptions(file_type(kind), **asked)) == theirs
