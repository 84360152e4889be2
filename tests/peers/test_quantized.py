"""Files that llama.cpp quantizes give its logits: exactly those of its own dequantization, nearly its 8-bit ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mull.llm import LLM
from mull.runtime.load_options import LoadOptions
from peers.binding import Peer, quantize
from tiny import Tiny

pytestmark = pytest.mark.peer

NUM_CTX = 256
SIZES = {"hidden_size": 256, "intermediate_size": 512}
DENSE = Tiny("Llama", "llama", SIZES)
SPARSE = Tiny(
    "Qwen3Moe",
    "qwen3moe",
    {
        **SIZES,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 256,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
    },
)

# Each with the types that llama.cpp puts in such a file.
TYPES = {
    "F16": "f16",
    "BF16": "bf16",
    "Q4_0": "q4_0",
    "Q4_1": "q4_1",
    "Q5_0": "q5_0",
    "Q5_1": "q5_1",
    "Q8_0": "q8_0",
    "Q2_K": "q2_k q3_k",
    "Q3_K_M": "q3_k q4_k",
    "Q4_K_M": "q4_k q6_k",
    "Q5_K_M": "q5_k q6_k",
    "Q6_K": "q6_k",
    "IQ4_NL": "iq4_nl",
    "IQ4_XS": "iq4_xs",
    "IQ3_S": "iq3_s",
    "TQ1_0": "tq1_0",
    "TQ2_0": "tq2_0",
}
NEED_IMPORTANCE = {
    "IQ3_XXS": "iq3_xxs",
    "IQ2_M": "iq2_s",
    "IQ2_XS": "iq2_xs",
    "IQ2_XXS": "iq2_xxs",
    "IQ1_M": "iq1_m",
    "IQ1_S": "iq1_s",
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a dense and a sparse model, float32, with weights of a trained model's spread."""
    folder = tmp_path_factory.mktemp("sources")
    paths = {}
    for name, model in {"dense": DENSE, "sparse": SPARSE}.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(tiny.TINY, name, model)
            network = tiny.build(name)
        with torch.no_grad():
            for weight in network.parameters():
                if weight.ndim > 1:
                    weight *= 0.4
        paths[name] = tiny.write_gguf(network, str(model.gguf), folder / f"{name}.gguf")
    return paths


def random_ids(length: int) -> list[int]:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(3, tiny.VOCAB, (length,), generator=generator).tolist()


def their_logits(path: Path, ids: list[int]) -> np.ndarray:
    with Peer(path, NUM_CTX) as peer:
        return peer.logits(ids)


def our_logits(path: Path, ids: list[int], dtype: str, types: str) -> np.ndarray:
    with LLM.open(str(path), LoadOptions(dtype=dtype, num_ctx=NUM_CTX, threads=1)) as llm:
        assert set(types.split()) <= set(llm.checkpoint.dtype_counts())
        return llm.logits(ids).numpy()


def divergence(reference: np.ndarray, other: np.ndarray) -> float:
    """Return the mean D(reference || other) of the rows' softmax, in nats."""
    p, q = (torch.from_numpy(rows).double().log_softmax(-1) for rows in (reference, other))
    return float((p.exp() * (p - q)).sum(-1).mean())


def check(source: Path, folder: Path, file_type: str, types: str, *, importance: bool = False) -> Path:
    """Quantize, and compare float32 logits with those of the file that llama.cpp dequantizes; return the file."""
    path = quantize(source, folder / f"{file_type}.gguf", file_type, importance=importance)
    ids = random_ids(40)
    expected = their_logits(quantize(path, folder / "dequantized.gguf", "F32"), ids)
    assert expected.std() > 0.1
    np.testing.assert_allclose(our_logits(path, ids, "f32", types), expected, atol=2e-4, rtol=0)
    return path


@pytest.mark.parametrize("file_type", TYPES)
def test_quantized_files(file_type: str, sources: dict[str, Path], tmp_path: Path) -> None:
    """llama.cpp's own products round activations to 8 bits, a scale for 32 or 256 of them; ours, to bfloat16."""
    path = check(sources["dense"], tmp_path, file_type, TYPES[file_type])
    ids = random_ids(40)
    for dtype in ("f32", "auto"):
        logits = our_logits(path, ids, dtype, TYPES[file_type])
        assert divergence(their_logits(path, ids), logits) < 1e-3


@pytest.mark.parametrize("file_type", NEED_IMPORTANCE)
def test_files_quantized_by_importance(file_type: str, sources: dict[str, Path], tmp_path: Path) -> None:
    check(sources["dense"], tmp_path, file_type, NEED_IMPORTANCE[file_type], importance=True)


@pytest.mark.parametrize(("file_type", "types"), [("MXFP4_MOE", "mxfp4 q8_0"), ("Q4_K_M", "q4_k q6_k")])
def test_quantized_experts(file_type: str, types: str, sources: dict[str, Path], tmp_path: Path) -> None:
    check(sources["sparse"], tmp_path, file_type, types)
