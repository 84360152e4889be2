"""Write a GGUF of a real model's shape, with random weights and a real vocabulary, to measure speed on.

    python bench/synthetic.py llama-1b q4_k_m out.gguf --vocab ../shared/data/tokenizers/ggml-vocab-llama-bpe.gguf

The blocks are drawn directly in the file's own types, with zero mean and the spread of weights at the start of
training: 0.02, and less by √(2·layers) for the matrices that write to the residual stream (GPT-2's rule). The
norms inside layers weigh less than one, as trained ones do: with all norms at one, random layers amplify every
rounding, and two runs of the same program with other batch sizes already differ by 1e-3 nats.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from mull.models.checkpoint.open import open_checkpoint
from mull.quant.dtype import dtype

SPREAD = 0.02
NORMS = {"attn_norm": 0.3, "ffn_norm": 0.4}


@dataclass(frozen=True)
class Shape:
    """The sizes of one model; all of them tie the head to the embedding."""

    architecture: str
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    theta: float
    context: int
    head_norms: bool


SHAPES = {
    "llama-1b": Shape("llama", 16, 2048, 8192, 32, 8, 64, 500000.0, 131072, head_norms=False),
    "qwen3-0.6b": Shape("qwen3", 28, 1024, 3072, 16, 8, 128, 1000000.0, 40960, head_norms=True),
}

Draw = Callable[[np.random.Generator, int, float], np.ndarray]


def _halves(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).view(np.uint8).reshape(len(values), -1)


def _q4_k(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    """Blocks whose minimum cancels the mean of their quants: w = d·sc·q - dmin·sc, dmin = 7.5 d."""
    scales = rng.integers(24, 63, (n, 8), dtype=np.uint8)
    packed = np.empty((n, 12), np.uint8)
    packed[:, 0:4] = packed[:, 4:8] = scales[:, :4] | ((scales[:, 4:] >> 4) << 6)
    packed[:, 8:12] = (scales[:, 4:] & 15) | (scales[:, 4:] << 4)
    d = np.full((n, 1), spread / (44 * 4.6))
    quants = rng.integers(0, 256, (n, 128), dtype=np.uint8)
    return np.concatenate([_halves(d), _halves(d * 7.5), packed, quants], axis=1)


def _q6_k(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    quants = rng.integers(0, 256, (n, 192), dtype=np.uint8)
    scales = rng.integers(32, 96, (n, 16), dtype=np.uint8)
    return np.concatenate([quants, scales, _halves(np.full((n, 1), spread / (64 * 18.5)))], axis=1)


def _q8_0(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    quants = rng.integers(-127, 128, (n, 32), dtype=np.int8).view(np.uint8)
    return np.concatenate([_halves(np.full((n, 1), spread / 73)), quants], axis=1)


def _q4_0(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    quants = rng.integers(0, 256, (n, 16), dtype=np.uint8)
    return np.concatenate([_halves(np.full((n, 1), spread / 4.6)), quants], axis=1)


def _f16(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    return _halves(rng.standard_normal((n, 1), dtype=np.float32) * spread)


DRAW: dict[str, Draw] = {"q4_k": _q4_k, "q6_k": _q6_k, "q8_0": _q8_0, "q4_0": _q4_0, "f16": _f16}


def type_of(name: str, layer: int, layers: int, file_type: str) -> str:
    """Return the type that llama.cpp's recipe gives a matrix; Q4_K_M mixes two, the others are uniform.

    In Q4_K_M the head, and in every layer of the first eighth, the last eighth and each third between them the
    values and the down projection, have 6 bits.
    """
    if file_type != "q4_k_m":
        return file_type
    if name == "token_embd":
        return "q6_k"
    eighth = layers // 8
    more = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    return "q6_k" if more and name in ("attn_v", "ffn_down") else "q4_k"


def matrices(shape: Shape) -> dict[str, tuple[int, int]]:
    """Return the matrices of one layer, [out, in]."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        "attn_q": (q, shape.hidden),
        "attn_k": (kv, shape.hidden),
        "attn_v": (kv, shape.hidden),
        "attn_output": (shape.hidden, q),
        "ffn_gate": (shape.inner, shape.hidden),
        "ffn_up": (shape.inner, shape.hidden),
        "ffn_down": (shape.hidden, shape.inner),
    }


class Synthetic:
    """A file being written."""

    def __init__(self, path: Path, shape: Shape, file_type: str, seed: int) -> None:
        self.writer = gguf.GGUFWriter(path, shape.architecture)
        self.shape = shape
        self.file_type = file_type
        self.rng = np.random.default_rng(seed)

    def write(self, vocabulary: Path) -> None:
        """Write metadata, vocabulary and tensors."""
        self._metadata()
        size = self._vocabulary(vocabulary)
        self._matrix("token_embd", "token_embd", (size, self.shape.hidden), 0)
        self._norm("output_norm", self.shape.hidden)
        for layer in range(self.shape.layers):
            for name, form in matrices(self.shape).items():
                self._matrix(f"blk.{layer}.{name}", name, form, layer)
            for name in ("attn_norm", "ffn_norm"):
                self._norm(f"blk.{layer}.{name}", self.shape.hidden)
            for name in ("attn_q_norm", "attn_k_norm") if self.shape.head_norms else ():
                self._norm(f"blk.{layer}.{name}", self.shape.head_dim)
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()

    def _metadata(self) -> None:
        shape, writer = self.shape, self.writer
        writer.add_name("synthetic")
        writer.add_context_length(shape.context)
        writer.add_embedding_length(shape.hidden)
        writer.add_block_count(shape.layers)
        writer.add_feed_forward_length(shape.inner)
        writer.add_head_count(shape.heads)
        writer.add_head_count_kv(shape.kv_heads)
        writer.add_key_length(shape.head_dim)
        writer.add_value_length(shape.head_dim)
        writer.add_rope_dimension_count(shape.head_dim)
        writer.add_rope_freq_base(shape.theta)
        writer.add_layer_norm_rms_eps(1e-5)
        names = {"f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0", "q4_k_m": "MOSTLY_Q4_K_M"}
        writer.add_file_type(gguf.LlamaFileType[names[self.file_type]])

    def _vocabulary(self, path: Path) -> int:
        with open_checkpoint(path) as source:
            metadata = source.metadata
            writer = self.writer
            writer.add_tokenizer_model(str(metadata["tokenizer.ggml.model"]))
            writer.add_tokenizer_pre(str(metadata["tokenizer.ggml.pre"]))
            tokens = list(metadata["tokenizer.ggml.tokens"])
            writer.add_token_list(tokens)
            writer.add_token_types(list(metadata["tokenizer.ggml.token_type"]))
            writer.add_token_merges(list(metadata["tokenizer.ggml.merges"]))
            for key in ("bos", "eos"):
                number = metadata.get(f"tokenizer.ggml.{key}_token_id")
                if number is not None:
                    writer.add_uint32(f"tokenizer.ggml.{key}_token_id", int(number))
            writer.add_vocab_size(len(tokens))
            return len(tokens)

    def _matrix(self, name: str, kind: str, form: tuple[int, int], layer: int) -> None:
        stored = dtype(type_of(kind, layer, self.shape.layers, self.file_type))
        rows, columns = form
        writes_to_residual = kind in ("attn_output", "ffn_down")
        spread = SPREAD / (2 * self.shape.layers) ** 0.5 if writes_to_residual else SPREAD
        blocks = DRAW[stored.name](self.rng, rows * columns // stored.block, spread)
        data = blocks.reshape(rows, -1)
        if stored.name == "f16":
            self.writer.add_tensor(f"{name}.weight", data.view(np.float16))
        else:
            raw = gguf.GGMLQuantizationType(stored.ggml_id)
            self.writer.add_tensor(f"{name}.weight", data, raw_dtype=raw)

    def _norm(self, name: str, size: int) -> None:
        weight = NORMS.get(name.rpartition(".")[2], 1.0)
        self.writer.add_tensor(f"{name}.weight", np.full(size, weight, np.float32))


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("type", choices=["f16", "q8_0", "q4_0", "q4_k_m"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    Synthetic(arguments.out, SHAPES[arguments.shape], arguments.type, arguments.seed).write(arguments.vocab)


if __name__ == "__main__":
    main()
