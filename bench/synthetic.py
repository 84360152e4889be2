"""Write a GGUF of a real model's shape, with random weights and a real vocabulary, to measure speed on.

    python bench/synthetic.py llama-1b q4_k_m out.gguf --vocab ../shared/data/tokenizers/ggml-vocab-llama-bpe.gguf

The blocks are drawn directly in the file's own types, with a mean near zero and the spread of weights at the start
of training: 0.02, and less by √(2·layers) for the matrices that write to the residual stream (GPT-2's rule). The
norms inside layers weigh less than one, as trained ones do: with all norms at one, random layers amplify every
rounding, and two runs of the same program with other batch sizes already differ by 1e-3 nats.

`python bench/synthetic.py --check` prints the mean and the spread of what each type's blocks are read as.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import torch
from mull.models.checkpoint.open import open_checkpoint
from mull.quant.dtype import dtype
from mull.quant.qtensor import from_bytes

SPREAD = 0.02
NORMS = {"attn_norm": 0.3, "ffn_norm": 0.4}


@dataclass(frozen=True)
class Shape:
    """The sizes of one model; all of them tie the head to the embedding. experts: 0 in dense models."""

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
    vocabulary: str
    experts: int = 0
    experts_used: int = 0


_LLAMA, _QWEN = "ggml-vocab-llama-bpe.gguf", "ggml-vocab-qwen2.gguf"
SHAPES = {
    "llama-1b": Shape("llama", 16, 2048, 8192, 32, 8, 64, 500000.0, 131072, False, _LLAMA),
    "qwen3-0.6b": Shape("qwen3", 28, 1024, 3072, 16, 8, 128, 1000000.0, 40960, True, _QWEN),
    "moe-1b": Shape("qwen3moe", 16, 1024, 2048, 16, 8, 128, 1000000.0, 40960, True, _QWEN, 8, 2),
    # Too small to tell anything about speed: they try the scripts out.
    "tiny": Shape("llama", 2, 256, 512, 4, 2, 64, 500000.0, 131072, False, _LLAMA),
    "tiny-moe": Shape("qwen3moe", 2, 256, 256, 4, 2, 64, 1000000.0, 40960, True, _QWEN, 8, 2),
}


@dataclass(frozen=True)
class Recipe:
    """A file type: the type of the matrices, of those that get more bits, and of the head."""

    base: str
    more: str = ""
    head: str = ""


# llama.cpp's recipes, simplified: plain types are uniform, and below four bits only the head gets more.
RECIPES = {
    **{
        name: Recipe(name) for name in ("f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "mxfp4")
    },
    "q4_k_m": Recipe("q4_k", "q6_k", "q6_k"),
    "q5_k_m": Recipe("q5_k", "q6_k", "q6_k"),
    "q6_k": Recipe("q6_k"),
    "q3_k_m": Recipe("q3_k", "", "q6_k"),
    **{name: Recipe(name, "", "q6_k") for name in ("q2_k", "iq4_nl", "iq4_xs", "iq3_s", "iq2_xs")},
}
_FILE_TYPES = {"f32": "ALL_F32"}  # the others are MOSTLY_ and their name
# The bytes at which types without a minimum keep their float16 scale.
_SCALE_AT = {"q4_0": 0, "q5_0": 0, "q3_k": 108, "iq4_nl": 0, "iq4_xs": 0, "iq3_s": 0, "iq2_xs": 0}

Draw = Callable[[np.random.Generator, int, float], np.ndarray]


def _halves(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).view(np.uint8).reshape(len(values), -1)


def _bytes(rng: np.random.Generator, n: int, count: int) -> np.ndarray:
    return rng.integers(0, 256, (n, count), dtype=np.uint8)


def read(name: str, blocks: np.ndarray) -> np.ndarray:
    """Return the float32 weights that mull reads from blocks, uint8 [n, nbytes]."""
    kind = dtype(name)
    data = torch.from_numpy(np.ascontiguousarray(blocks)).flatten()
    return from_bytes(data, kind, (len(blocks) * kind.block,)).dequantize().numpy()


def _random_codes(name: str) -> Draw:
    """Draw any codes, and a scale of random sign that gives what is read from them the spread."""

    def draw(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
        blocks = _bytes(rng, n, dtype(name).nbytes)
        scale = rng.choice([-1.0, 1.0], (n, 1)) * spread / _spread_of_codes(name)
        blocks[:, _SCALE_AT[name] : _SCALE_AT[name] + 2] = _halves(scale)
        return blocks

    return draw


@cache
def _spread_of_codes(name: str) -> float:
    at = _SCALE_AT[name]
    blocks = _bytes(np.random.default_rng(0), 1 << 13, dtype(name).nbytes)
    blocks[:, at : at + 2] = _halves(np.ones((len(blocks), 1)))
    return float(read(name, blocks).std())


def _with_minimum(name: str) -> Draw:
    """Draw blocks of q4_1 or q5_1, whose minimum cancels the mean of their quants."""
    most = {"q4_1": 15, "q5_1": 31}[name]

    def draw(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
        d = np.full((n, 1), spread / (((most + 1) ** 2 - 1) / 12) ** 0.5)
        quants = _bytes(rng, n, dtype(name).nbytes - 4)
        return np.concatenate([_halves(d), _halves(d * -most / 2), quants], axis=1)

    return draw


def _q45_k(name: str) -> Draw:
    """Draw blocks whose minimum cancels the mean of their quants: w = d·sc·q - dmin·sc, dmin = d·max(q)/2."""
    most, spread_of_quants = {"q4_k": (15, 4.6), "q5_k": (31, 9.2)}[name]

    def draw(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
        scales = rng.integers(24, 63, (n, 8), dtype=np.uint8)
        packed = np.empty((n, 12), np.uint8)
        packed[:, 0:4] = packed[:, 4:8] = scales[:, :4] | ((scales[:, 4:] >> 4) << 6)
        packed[:, 8:12] = (scales[:, 4:] & 15) | (scales[:, 4:] << 4)
        d = np.full((n, 1), spread / (44 * spread_of_quants))
        quants = _bytes(rng, n, dtype(name).nbytes - 16)
        return np.concatenate([_halves(d), _halves(d * most / 2), packed, quants], axis=1)

    return draw


def _q2_k(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    scales = rng.integers(5, 16, (n, 16), dtype=np.uint8)
    d = np.full((n, 1), spread / (10.5 * 1.118))
    return np.concatenate([scales * 17, _bytes(rng, n, 64), _halves(d), _halves(d * 1.5)], axis=1)


def _q6_k(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    scales = rng.integers(32, 96, (n, 16), dtype=np.uint8)
    d = np.full((n, 1), spread / (64 * 18.5))
    return np.concatenate([_bytes(rng, n, 192), scales, _halves(d)], axis=1)


def _q8_0(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    quants = rng.integers(-127, 128, (n, 32), dtype=np.int8).view(np.uint8)
    return np.concatenate([_halves(np.full((n, 1), spread / 73)), quants], axis=1)


def _mxfp4(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    """Mix the two powers of two around the scale so that the variances add up: 5.85 is the spread of the codes."""
    scale = spread / 5.85
    low = np.floor(np.log2(scale))
    share = ((scale / 2**low) ** 2 - 1) / 3
    power = (low + 128 + (rng.random((n, 1)) < share)).astype(np.uint8)
    return np.concatenate([power, _bytes(rng, n, 16)], axis=1)


def _floats(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    return rng.standard_normal((n, 1), dtype=np.float32) * np.float32(spread)


def _bf16(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    return (_floats(rng, n, spread).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(n, 2)


DRAW: dict[str, Draw] = {
    **{name: _random_codes(name) for name in _SCALE_AT},
    **{name: _with_minimum(name) for name in ("q4_1", "q5_1")},
    **{name: _q45_k(name) for name in ("q4_k", "q5_k")},
    "q2_k": _q2_k,
    "q6_k": _q6_k,
    "q8_0": _q8_0,
    "mxfp4": _mxfp4,
    "f32": lambda rng, n, spread: _floats(rng, n, spread).view(np.uint8),
    "f16": lambda rng, n, spread: _halves(_floats(rng, n, spread)),
    "bf16": _bf16,
}


def type_of(name: str, layer: int, layers: int, file_type: str) -> str:
    """Return the type that a matrix has: in Q4_K_M and Q5_K_M some of a layer's have 6 bits.

    They are the values and the down projection, in the first eighth of the layers, in the last, and in each third
    between them.
    """
    recipe = RECIPES[file_type]
    if name == "token_embd":
        return recipe.head or recipe.base
    eighth = layers // 8
    more = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    matters = name.removesuffix("_exps") in ("attn_v", "ffn_down")
    return recipe.more if recipe.more and more and matters else recipe.base


def matrices(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return the matrices of one layer, [out, in], those of experts stacked."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    suffix, stack = ("_exps", (shape.experts,)) if shape.experts else ("", ())
    return {
        "attn_q": (q, shape.hidden),
        "attn_k": (kv, shape.hidden),
        "attn_v": (kv, shape.hidden),
        "attn_output": (shape.hidden, q),
        f"ffn_gate{suffix}": (*stack, shape.inner, shape.hidden),
        f"ffn_up{suffix}": (*stack, shape.inner, shape.hidden),
        f"ffn_down{suffix}": (*stack, shape.hidden, shape.inner),
    }


class Synthetic:
    """A file being written; its tensors are drawn one at a time, in the order in which they were announced."""

    def __init__(self, path: Path, shape: Shape, file_type: str, seed: int) -> None:
        self.path = path
        self.shape = shape
        self.file_type = file_type
        self.rng = np.random.default_rng(seed)
        self.pending: list[Callable[[], np.ndarray]] = []

    def write(self, vocabulary: Path) -> None:
        """Write metadata, vocabulary and tensors; the file has its name only once it is whole."""
        partial = self.path.with_name(self.path.name + ".part")
        self.writer = gguf.GGUFWriter(partial, self.shape.architecture)
        try:
            self._metadata()
            self._announce(self._vocabulary(vocabulary))
            self.writer.write_header_to_file()
            self.writer.write_kv_data_to_file()
            self.writer.write_ti_data_to_file()
            for draw in self.pending:
                self.writer.write_tensor_data(draw())
            self.writer.close()
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)

    def _announce(self, size: int) -> None:
        shape = self.shape
        self._matrix("token_embd", "token_embd", (size, shape.hidden), 0)
        self._norm("output_norm", shape.hidden)
        for layer in range(shape.layers):
            for name, form in matrices(shape).items():
                self._matrix(f"blk.{layer}.{name}", name, form, layer)
            for name in ("attn_norm", "ffn_norm"):
                self._norm(f"blk.{layer}.{name}", shape.hidden)
            for name in ("attn_q_norm", "attn_k_norm") if shape.head_norms else ():
                self._norm(f"blk.{layer}.{name}", shape.head_dim)
            if shape.experts:
                self._router(f"blk.{layer}.ffn_gate_inp", (shape.experts, shape.hidden))

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
        if shape.experts:
            writer.add_expert_count(shape.experts)
            writer.add_expert_used_count(shape.experts_used)
            writer.add_expert_feed_forward_length(shape.inner)
        name = _FILE_TYPES.get(self.file_type, f"MOSTLY_{self.file_type.upper()}")
        known = getattr(gguf.LlamaFileType, name, gguf.LlamaFileType.GUESSED)
        writer.add_file_type(known)

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

    def _matrix(self, name: str, kind: str, form: tuple[int, ...], layer: int) -> None:
        stored = dtype(type_of(kind, layer, self.shape.layers, self.file_type))
        writes_to_residual = kind.removesuffix("_exps") in ("attn_output", "ffn_down")
        spread = SPREAD / (2 * self.shape.layers) ** 0.5 if writes_to_residual else SPREAD
        row_bytes = stored.shape_bytes(form[-1:])
        nbytes = stored.shape_bytes(form)
        raw = gguf.GGMLQuantizationType(stored.ggml_id)
        # gguf converts the shape of bytes into one of weights.
        byte_form = (*form[:-1], row_bytes)
        self.writer.add_tensor_info(f"{name}.weight", byte_form, np.dtype(np.uint8), nbytes, raw)
        count = nbytes // stored.nbytes
        self.pending.append(lambda: DRAW[stored.name](self.rng, count, spread))

    def _norm(self, name: str, size: int) -> None:
        weight = NORMS.get(name.rpartition(".")[2], 1.0)
        self._float32(name, (size,), lambda: np.full(size, weight, np.float32))

    def _router(self, name: str, form: tuple[int, int]) -> None:
        self._float32(name, form, lambda: self.rng.normal(0, SPREAD, form).astype(np.float32))

    def _float32(self, name: str, form: tuple[int, ...], draw: Callable[[], np.ndarray]) -> None:
        size = 4 * int(np.prod(form))
        self.writer.add_tensor_info(f"{name}.weight", form, np.dtype(np.float32), size)
        self.pending.append(draw)


def check() -> bool:
    """Print mean and spread of every type as mull reads it; tell whether all are near 0 and SPREAD."""
    good = True
    for name, draw in DRAW.items():
        blocks = draw(np.random.default_rng(1), (1 << 22) // dtype(name).block, SPREAD)
        weights = read(name, blocks).astype(np.float64)
        mean, spread = weights.mean() / SPREAD, weights.std() / SPREAD
        fits = abs(mean) < 0.05 and abs(spread - 1) < 0.05
        print(f"{name:8} mean {mean:+.3f}  spread {spread:.3f} of {SPREAD}{'' if fits else '  <-- off'}")
        good = good and bool(fits)
    return good


def main() -> None:
    """Read the command line and write the file."""
    if sys.argv[1:] == ["--check"]:
        sys.exit(not check())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("type", choices=RECIPES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    Synthetic(arguments.out, SHAPES[arguments.shape], arguments.type, arguments.seed).write(arguments.vocab)


if __name__ == "__main__":
    main()
